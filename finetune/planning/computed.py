"""What a run needs on another machine: computed memory, whether it fits, and what to change if it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetune.data.preparation import Prepared
from finetune.errors import FinetuneError
from finetune.interfaces import Strategy
from finetune.plan import Plan
from finetune.planning import devices
from finetune.planning.activations import GpuKernels
from finetune.planning.memory import optimizer_state, update_copies
from finetune.planning.step import StepModel
from finetune.plugins import Plugins
from finetune.recipe import options
from finetune.training import auto_batch
from finetune.training.device_defaults import Device, device_defaults


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Memory of each GPU in bytes, when the most is used."""

    weights: int
    """Weights, also those of a reference model, and buffers; with FSDP, the share of a GPU."""
    gradients: int
    """Gradients of weights at that time."""
    optimizer: int
    """State of the optimizer."""
    exchange: int
    """With several GPUs: the buckets of DDP, or the gathered layers of FSDP."""
    activations: int
    """What forward keeps for backward, and the tensors that both make for a short time."""
    update: int
    """The most that is used while the optimizer updates the weights, when there are no activations."""

    @property
    def total(self) -> int:
        """Return the most that is used."""
        parts = self.weights + self.gradients + self.optimizer + self.exchange + self.activations
        return max(parts, self.update)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What differs from the recipe."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Training options."""
    strategy: str | None = None
    """Name of another strategy."""
    sharded: bool = False
    """Whether FSDP shares out the weights."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the recipe, with what the run then needs."""

    what: str
    """As the recipe says it: ``training.bf16: true``."""
    costs: str
    """What it costs."""
    total: int | None
    """Bytes of each GPU with this change and those before; None if it cannot be made."""
    fits: bool
    reason: str = ""
    """Why it cannot be made."""


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What a run needs on GPUs of one kind, without a measurement."""

    gpu: str
    gpus: int
    memory: int
    """Bytes of a GPU."""
    reserved: int
    """Bytes of them that the plan leaves free."""
    needs: Needs
    """What the run needs as the recipe says."""
    fits: bool
    rows: int
    """Rows of a batch on each GPU."""
    longest: int
    """Tokens of its longest row."""
    precision: str
    trained: int
    """Parameters that train."""
    parameters: int
    """All parameters."""
    checkpoint_bytes: int
    """Bytes of a checkpoint: what is saved of the model, and the state of the optimizer."""
    changes: Sequence[Change] = ()
    """If it does not fit: what to change, each with those before it, until it fits."""
    notes: Sequence[str] = ()


def needs_of(
    model: StepModel, *, rows: int, gpus: int, sharded: bool = False, kernels: GpuKernels | None = None
) -> Needs:
    """Return what a step needs on each GPU.

    Several GPUs train by DDP, whose buckets hold a copy of all gradients, or by FSDP2: a GPU has its share of weights,
    gradients and state, and gathers one layer while it computes the one before.

    Sources: Li et al. 2020, "PyTorch Distributed", section 3.2.3 (buckets); Zhao et al. 2023, "PyTorch FSDP", section
    3.2, and `torch.distributed.fsdp.fully_shard`, whose root keeps what is in no layer until backward has passed.

    Args:
        model: The recipe's step.
        rows: Rows of a batch.
        gpus: How many train together.
        sharded: Whether FSDP divides the weights.
        kernels: What is imitated; None for a GPU with the recipe's autocast.
    """
    sizes, optim = model.sizes, str(model.arguments.optim.value)
    if sharded:
        trained = [tensor.shard(gpus) for tensor in sizes.trained]
        frozen = sum(tensor.shard(gpus).bytes for tensor in sizes.frozen)
        step = model.step(rows=rows, keeps_gradients=False)
        itemsize = 2 if model.autocast else max((tensor.itemsize for tensor in sizes.trained), default=4)
        gathered = itemsize * (2 * sizes.layer + sizes.rest)
        gradient_of_layer = itemsize * max(sizes.layer, sizes.rest) if not sizes.frozen else 0
        weights = sum(tensor.bytes for tensor in trained) + frozen + -(-sizes.quantized // gpus) + sizes.buffers
        gradients = sum(tensor.bytes for tensor in trained)
        exchange = gathered + gradient_of_layer
        weights += sizes.others
        return _needs(weights, gradients, gradients, trained, optim, exchange, step.peak)
    step = model.step(rows=rows, kernels=kernels)
    gradients = sum(tensor.bytes for tensor in sizes.trained)
    accumulates = model.accumulated > 1
    at_peak = gradients if accumulates else step.gradients_at_peak
    exchange = gradients if gpus > 1 else 0
    weights = sizes.weights + sizes.others
    return _needs(weights, at_peak, gradients, list(sizes.trained), optim, exchange, step.peak)


def _needs(
    weights: int, at_peak: int, gradients: int, trained: list[Any], optim: str, exchange: int, activations: int
) -> Needs:
    state = optimizer_state(trained, optim)
    update = weights + gradients + state + update_copies(trained, optim)
    return Needs(
        weights=weights,
        gradients=at_peak,
        optimizer=state,
        exchange=exchange,
        activations=activations,
        update=update,
    )


def compute(prepared: Prepared, *, gpu: str, gpus: int = 1) -> Computed:
    """Compute what a run needs on GPUs, and what to change if it does not fit.

    Args:
        prepared: The recipe, and its data.
        gpu: A name of `finetune.planning.devices.GPUS`.
        gpus: How many of them.

    Raises:
        UnknownName: There is no such GPU.
        Incompatible: The memory cannot be computed without the weights.
        BadOptions: The memory of the optimizer is not known.
    """
    device = devices.find(gpu)
    available = device.memory - devices.RESERVED
    prepared = replace(prepared, plan=_on(device, prepared.plan))
    model = StepModel(prepared)
    rows: int = model.arguments.per_device_train_batch_size
    chosen: list[str] = []
    if auto_batch.is_on(prepared.plan.recipe.training):
        rows, chosen = _largest(model, available=available, gpus=gpus)
    setting = Setting(sharded=bool(prepared.plan.recipe.training.get("fsdp")))
    needs = needs_of(model, rows=rows, gpus=gpus, sharded=setting.sharded)
    fits = needs.total <= available
    changes = [] if fits else list(_changes(prepared, model, setting, available=available, gpus=gpus))
    sizes = model.sizes
    return Computed(
        gpu=gpu,
        gpus=gpus,
        memory=device.memory,
        reserved=devices.RESERVED,
        needs=needs,
        fits=fits,
        rows=rows,
        longest=model.longest,
        precision="bf16 or fp16 autocast" if model.autocast else "no autocast",
        trained=sum(tensor.numbers for tensor in sizes.trained),
        parameters=sizes.numbers,
        checkpoint_bytes=model.saved_bytes + needs.optimizer,
        changes=tuple(changes),
        notes=(*chosen, *_notes(model, device, gpus, sharded=setting.sharded)),
    )


def _on(device: devices.Gpu, plan: Plan) -> Plan:
    """Return a run with the training options that it would have on a GPU."""
    trained_by = Device(is_accelerator=True, has_bf16=device.bf16)
    defaults = device_defaults(plan.task, plan.strategy, plan.recipe.training, device=trained_by)
    recipe = replace(plan.recipe, training={**defaults, **plan.recipe.training})
    return replace(plan, recipe=recipe)


def _largest(model: StepModel, *, available: int, gpus: int) -> tuple[int, list[str]]:
    """Return the largest batch of ``batch: auto`` that fits, or one row, and a note; the model then accumulates."""
    rows = auto_batch.rows_of_a_step(
        {auto_batch.SIZE: model.arguments.per_device_train_batch_size, auto_batch.ACCUMULATED: model.accumulated}
    )
    size = 1
    for size in auto_batch.sizes(rows):
        model.accumulated = rows // size
        if needs_of(model, rows=size, gpus=gpus).total <= available:
            break
    return size, [
        f"batch: auto would take per_device_train_batch_size {size} × gradient_accumulation_steps {rows // size} = "
        f"{rows} rows a step, by the computed memory; on that machine the run also tries it"
    ]


def _notes(model: StepModel, device: devices.Gpu, gpus: int, *, sharded: bool) -> list[str]:
    """Return what the figures leave out."""
    notes = ["these figures are computed, not measured; the time on another device is not predicted"]
    if model.new:
        notes.append(f"the base model is taken to lack: {', '.join(sorted(model.new))}")
    if model.generates_while_training:
        notes.append("the trainer of this task also writes texts while it trains; the memory for that is not computed")
    if not device.bf16:
        notes.append(f"the {device.title} has no bfloat16; fp16 needs the same memory")
    if gpus > 1 and not sharded:
        notes.append("several GPUs train by DDP, unless a change says FSDP")
    return notes


def _changes(prepared: Prepared, model: StepModel, setting: Setting, *, available: int, gpus: int) -> Iterator[Change]:
    """Yield changes in the order of what they cost, each on top of those before it, until the run fits."""
    rows, accumulated = model.arguments.per_device_train_batch_size, model.accumulated
    for what, costs, change in _candidates(
        model, prepared.plan.plugins, prepared.plan.strategy, gpus=gpus, sharded=setting.sharded
    ):
        tried = change(setting)
        try:
            built = _build(prepared, tried)
            total, rows_then = _total(built, tried, rows, gpus, available, shrinks=what == BATCH)
        except FinetuneError as error:
            yield Change(what=what, costs=costs, total=None, fits=False, reason=str(error))
            continue
        if what == BATCH:
            accumulated, rows = accumulated * -(-rows // rows_then), rows_then
            options_now = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulated}
            tried = Setting(
                arguments={**tried.arguments, **options_now}, strategy=tried.strategy, sharded=tried.sharded
            )
            what = "training: " + ", ".join(f"{name}: {value}" for name, value in options_now.items())
        setting = tried
        yield Change(what=what, costs=costs, total=total, fits=total <= available)
        if total <= available:
            return


BATCH = "a smaller batch"


def _candidates(
    model: StepModel, plugins: Plugins, used: Strategy, *, gpus: int, sharded: bool
) -> Iterator[tuple[str, str, Any]]:
    """Yield what can be changed, what it costs, and the function from a setting to the next.

    Not every strategy can train divided weights. FSDP is offered with the last one that can.
    """
    arguments = model.arguments

    def with_arguments(**more: Any) -> Any:
        return lambda old: Setting(arguments={**old.arguments, **more}, strategy=old.strategy, sharded=old.sharded)

    def with_strategy(name: str) -> Any:
        return lambda old: Setting(arguments=old.arguments, strategy=name, sharded=old.sharded)

    if not arguments.activation_checkpointing:
        yield (
            "training: activation_checkpointing: true",
            "time: each layer is computed twice forward",
            with_arguments(activation_checkpointing=True),
        )
    if arguments.per_device_train_batch_size > 1:
        yield BATCH, "time, if the GPU has less to do at once; the total batch stays", with_arguments()
    if model.autocast is None:
        yield "training: bf16: true", "some precision", with_arguments(bf16=True)
    last = divisible = type(used)
    name_of_divisible = None
    for name, strategy in sorted(strategies_for_memory(plugins).items(), key=lambda item: item[1].memory_rank):
        if strategy.memory_rank > used.memory_rank and (strategy.trains_sharded or not sharded):
            yield f"strategy: {name}", "what can be learned, because few parameters train", with_strategy(name)
            last = strategy
            if strategy.trains_sharded:
                divisible, name_of_divisible = strategy, name
    if gpus > 1 and not sharded and divisible.trains_sharded:
        back = "" if divisible is last else f", with strategy: {name_of_divisible or 'that of the recipe'}"
        yield (
            f"training: fsdp: true, over {gpus} GPUs{back}",
            "traffic between the GPUs",
            lambda old: Setting(arguments=old.arguments, strategy=name_of_divisible, sharded=True),
        )


def strategies_for_memory(plugins: Plugins) -> dict[str, type[Strategy]]:
    """Return the strategies that a plan offers if the memory is not enough: name → class."""
    found = {}
    catalogue = plugins.catalogues["strategies"]
    for name in catalogue.targets:
        if name in catalogue.missing:
            continue
        strategy = plugins.find("strategies", name)
        if getattr(strategy, "memory_rank", 0):
            found[name] = strategy
    return found


def _build(prepared: Prepared, setting: Setting) -> StepModel:
    strategy = None
    if setting.strategy is not None:
        strategy = options.build(prepared.plan.plugins.find("strategies", setting.strategy), {}, where="strategy")
    return StepModel(prepared, strategy=strategy, arguments=setting.arguments)


def _total(
    model: StepModel, setting: Setting, rows: int, gpus: int, available: int, *, shrinks: bool
) -> tuple[int, int]:
    """Return what a run needs, and the rows of its batch: half of them, and again, until it fits, if wanted."""
    if shrinks:
        model.accumulated = max(model.accumulated, 2)
        rows = max(rows // 2, 1)
    total = needs_of(model, rows=rows, gpus=gpus, sharded=setting.sharded).total
    while shrinks and rows > 1 and total > available:
        rows = max(rows // 2, 1)
        total = needs_of(model, rows=rows, gpus=gpus, sharded=setting.sharded).total
    return total, rows
