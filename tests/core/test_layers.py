"""Guards over the tree: arrows run one way, core names no plugin, every target and option is what it says."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import finetune
from finetune import kit
from finetune.interfaces import Evaluator, Importer, Preprocessor, Reader, Strategy, Task
from finetune.plugins import discover, resolve
from finetune.recipe import Choice, Model, Recipe, Source, Teacher
from finetune.recipe.options import document

ROOT = Path(__file__).parents[2]
CORE = ROOT / "finetune"
PLUGINS = sorted(path for path in (ROOT / "plugins").glob("finetune_*") if path.is_dir())

LAYERS = (
    ("errors", "user_code", "trust", "credentials", "secrets", "characters", "files"),
    ("training.upstream", "conversion"),
    ("interfaces",),
    ("hookspecs",),
    ("descriptions", "static_classes", "plugins"),
    (
        "recipe.strict_yaml",
        "recipe.options",
        "recipe.search",
        "recipe.recipe",
        "recipe.gallery",
        "recipe.foreign",
        "recipe",
    ),
    (
        "processes",
        "progress",
        "result_form",
        "result",
        "seed_folders",
        "seeds_result",
        "limits",
        "checkpoint_folders",
        "folder",
        "failures",
        "kept_layers",
        "gguf",
        "models",
        "base",
    ),
    ("training",),
    ("recipe.schema", "result_schema", "recipe.short", "recipe.starter", "python_objects", "plan", "importing"),
    ("data", "early"),
    ("evaluation",),
    ("report",),
    ("tracking",),
    (
        "run",
        "run_seeds",
        "teachers",
        "elsewhere",
        "runtimes",
        "wheels",
        "cleaning",
        "jobs",
        "prediction",
        "planning",
        "inspection",
    ),
    ("cli.output", "cli.meant", "cli.parameters"),
    ("kit",),
    ("front_door", "fine_tuned", "opening", "api", "adoption"),
    ("testing", "cli"),
)
"""A module imports from the layers before its own, or from its own layer."""

ONLY = {
    "pydantic": {"recipe", "training"},
    "yaml": {"recipe"},
    "pluggy": {"hookspecs", "plugins"},
    "ray": {"prediction"},
}
"""Which rooms of the core may import a library."""

STABLE = ("finetune.interfaces", "finetune.errors", "finetune.hookspecs", "finetune.testing", "finetune.kit")
"""What a plugin may import of the core; see `finetune.kit`."""

PLUGIN_ONLY = {
    "peft": "finetune_peft",
    "bitsandbytes": "finetune_peft",
    "trl": "finetune_trl",
    "evaluate": "finetune_evaluate",
    "huggingface_hub": "finetune_hub",
    "optuna": "finetune_tune",
    "onnx": "finetune_export",
    "onnxruntime": "finetune_export",
    "openvino": "finetune_export",
    "nncf": "finetune_export",
}


def module_of(path: Path) -> str:
    """Return the first part of a core module's name: `data` for `finetune/data/csv.py`."""
    part = path.relative_to(CORE).parts[0].removesuffix(".py")
    return "" if part in {"__init__", "__main__"} else part


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in the file; `if TYPE_CHECKING` left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    checking = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


CORE_FILES = sorted(CORE.rglob("*.py"))
RANK = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def test_a_module_is_in_one_layer() -> None:
    assert len(RANK) == sum(map(len, LAYERS))


def rank_of(module: str) -> int | None:
    """Return the layer of a module of the core, by its own name or that of its folder; None for none."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in RANK:
            return RANK[".".join(parts[:end])]
    return None


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_arrows_run_one_way(path: Path) -> None:
    if not module_of(path):
        return
    module = ".".join(path.relative_to(CORE).with_suffix("").parts).removesuffix(".__init__")
    own = rank_of(module)
    assert own is not None, f"{module} is in no layer; add it to LAYERS"
    for imported in imports(path):
        if imported.startswith("finetune."):
            rank = rank_of(imported.removeprefix("finetune."))
            assert rank is None or rank <= own, f"{module} imports {imported}, which is in a later layer"


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_a_library_is_imported_where_it_belongs(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    for library, owners in ONLY.items():
        assert library not in roots or module_of(path) in owners, f"{path.name} imports {library}"
    assert not roots & set(PLUGIN_ONLY), f"core imports {roots & set(PLUGIN_ONLY)}"
    assert not {root for root in roots if root.startswith("finetune_")}, "core imports a plugin"


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_imports_the_stable_names_and_itself(folder: Path) -> None:
    for path in folder.rglob("*.py"):
        for module in imports(path):
            root = module.split(".")[0]
            assert root == folder.name or not root.startswith("finetune_"), f"{path} imports another plugin"
            assert root not in PLUGIN_ONLY or PLUGIN_ONLY[root] == folder.name, f"{path} imports {root}"
            if root == "finetune":
                stable = any(module == name or module.startswith(f"{name}.") for name in STABLE)
                front_door = module == "finetune" or module.removeprefix("finetune.") in finetune.__all__
                assert stable or front_door, f"{path} imports {module}; a plugin imports {', '.join(STABLE)}"


def test_a_plugin_imports_from_the_kit_what_the_kit_exports() -> None:
    exported = set(kit.__all__)
    for folder in PLUGINS:
        for path in folder.rglob("*.py"):
            for module in imports(path):
                if module.startswith("finetune.kit."):
                    name = module.removeprefix("finetune.kit.")
                    assert name in exported, f"{path} imports {name}, which finetune.kit does not export"


def test_every_name_of_the_kit_is_there_and_documented() -> None:
    for name in kit.__all__:
        value = getattr(kit, name)
        assert isinstance(value, str | int | dict) or (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_core_names_no_plugin() -> None:
    found = discover()
    names = {n for c in found.catalogues.values() for n in c.targets} | set(found.distributions)
    literals = {
        node.value: path
        for path in CORE_FILES
        # upstream.py names modules of TRL, such as trl.trainer.dpo_trainer
        if "testing" not in path.parts and path.name != "upstream.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # `full` is the default of `finetune init --strategy`, `demo` an extra, `prompt` a column and `reward` a key of
    # records, which the report shows as chats; the others are words
    words = {"full", "demo", "card", "lines", "text", "samples", "hub", "prefix", "prompt", "reward", "learn"}
    named = names & set(literals) - words
    assert not named, {name: literals[name] for name in named}


def test_every_module_can_be_imported() -> None:
    for package in ("finetune", *(path.name for path in PLUGINS)):
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)


BASES = {
    "preprocessors": Preprocessor,
    "strategies": Strategy,
    "evaluators": Evaluator,
    "readers": Reader,
    "importers": Importer,
}


def classes() -> list[type]:
    """Return every class of ours that takes options."""
    found = discover()
    targets = [resolve(target) for hook in BASES for target in found.catalogues[hook].targets.values()]
    for task in found.catalogues["tasks"].targets.values():
        targets += [resolve(task.preprocessor), resolve(task.evaluator)]
    return [*dict.fromkeys(targets), Recipe, Model, Source, Choice, Teacher]


def test_every_target_is_of_the_right_kind() -> None:
    found = discover()
    assert not found.broken
    for hook, base in BASES.items():
        for name in found.catalogues[hook].targets:
            assert issubclass(found.find(hook, name), base), name
    for name in found.catalogues["tasks"].targets:
        task = found.find("tasks", name)
        assert isinstance(task, Task), name
        assert issubclass(resolve(task.preprocessor), Preprocessor), name
        assert issubclass(resolve(task.evaluator), Evaluator), name
        assert callable(resolve(task.trainer)), name
        assert task.labels <= task.features, name


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_option_is_documented(cls: type) -> None:
    if not hasattr(cls, "__dataclass_fields__"):
        return
    for option in document(cls):
        assert len(option.doc) > 10, f"{cls.__name__}.{option.name} has no docstring"


def test_reading_files_loads_neither_torch_nor_transformers() -> None:
    readers = [target.partition(":")[0] for target in discover().catalogues["readers"].targets.values()]
    program = f"""
import importlib, sys
import finetune.data
for module in {readers}: importlib.import_module(module)
print(sorted(set(sys.modules) & {{"torch", "transformers"}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
