"""`finetune push`."""

from __future__ import annotations

import click

from finetune.kit import cli_parameters


@click.command("push")
@click.argument("run", type=cli_parameters.RunPath(file_okay=False))
@click.argument("repo", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Make the repository private if it is new.")
@click.option("--with-data", is_flag=True, help="Upload rows of the data too: report, predictions, worst errors.")
@click.option("--check", "only_check", is_flag=True, help="List the files and the problems, and upload nothing.")
@cli_parameters.modules
@cli_parameters.trust_code
def command(run: str, repo: str, private: bool, with_data: bool, only_check: bool) -> None:
    """Push a finished run to the Hub: the model, its card and its recipe.

    The folder is checked first: it needs a licence, and must hold no pickle, token or link. Checkpoints and logs are
    never uploaded.
    """
    from pathlib import Path

    from finetune.kit import cli_output

    with cli_output.loading():
        from finetune.kit import Result
        from finetune_hub import push
        from finetune_hub.hub_rules import repo_problem

    if only_check:
        result = Result.load(run)
        files = push.files_to_upload(Path(run), with_data=with_data)
        problems = list(push.find_problems(result, Path(run), files))
        wrong_name = repo_problem(repo)
        if wrong_name:
            problems.insert(0, wrong_name)
        for name in files:
            click.echo(name)
        for problem in problems:
            click.echo(f"not ready: {problem}", err=True)
        click.get_current_context().exit(2 if problems else 0)
    with cli_output.loading(f"Checking {run}, and uploading it to {repo}"):
        pushed = push.push(run, repo, private=private, with_data=with_data)
    click.echo(f"{len(pushed.files)} files in commit {pushed.commit[:12]}\n{pushed.url}")
