"""`compile` and `contracts`: documents in, files out; no Kafka, no network."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.common import Exit, Panel, ServiceName, fail, load_settings, print_json, read_document, stderr, stdout
from agent.cli.compile_sheet import show_report
from agent.compiler.compile import MANIFEST
from agent.errors import SpecRejected
from agent.fileset import FileSet, UnsafePath, safe_path
from agent.pipeline.bounded import compile_bounded
from contracts import export
from contracts.status import Diagnostic
from contracts.tasks import Target


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compile", rich_help_panel=Panel.ALONE)(compile_file)
    app.command("contracts", rich_help_panel=Panel.DEVELOP)(contracts)


def compile_file(
    file: Annotated[Path, typer.Argument(help="An OpenAPI 3.0 or 3.1 document (YAML or JSON).")],
    out: Annotated[Path, typer.Option(help="Folder for the project: empty, absent, or one that we made.")],
    target: Annotated[Target, typer.Option(help="The stack.")] = Target.PYTHON_FASTAPI,
    service: ServiceName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Turn a document into a complete project, deterministically, without proof: `backwright verify DIR` measures it."""
    document = read_document(file)
    _check_folder(out)
    try:
        compilation = asyncio.run(
            compile_bounded(document, service=service, target=target, settings=load_settings().compiler)
        )
    except SpecRejected as exc:
        _refuse(file, exc.diagnostics, as_json)
    _write(compilation.files, compilation.manifest, out)
    if as_json:
        print_json(compilation.report.to_json())
    else:
        show_report(compilation.report, stdout)
        stderr.print(f"{len(compilation.files)} files in {out}; next: backwright verify {out}", markup=False)


def _check_folder(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        fail(Exit.BAD_INPUT, f"{out} is not a folder", "name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        fail(
            Exit.BAD_INPUT,
            f"{out} is not empty and holds no manifest of ours",
            "name an empty or a new folder: files of others are never overwritten",
        )


def _write(files: FileSet, manifest: Mapping[str, Any], out: Path) -> None:
    """Write a project; in one of ours, seeded files stay as they are and generated ones that are gone are removed."""
    before = json.loads((out / MANIFEST).read_bytes())["files"] if (out / MANIFEST).is_file() else {}
    kept = {
        path
        for path, fact in manifest["files"].items()
        if fact["owner"] == "seeded" and path in before and (out / path).is_file()
    }
    try:
        for path, fact in before.items():
            if fact["owner"] == "generated" and path not in files:
                (out / safe_path(path)).unlink(missing_ok=True)
        FileSet((path, file) for path, file in files.items() if path not in kept).write(out)
    except OSError as exc:
        fail(Exit.ENVIRONMENT, f"cannot write {out}: {exc.strerror}", "free disk space, or name another folder")
    except (UnsafePath, KeyError, TypeError) as exc:
        fail(Exit.BAD_INPUT, f"{out} cannot be regenerated: {exc}", "name an empty or a new folder")


def _refuse(file: Path, diagnostics: tuple[Diagnostic, ...], as_json: bool) -> None:
    if as_json:
        empty = dict.fromkeys(("operations", "derived", "declared", "hooked", "refused"), 0)
        print_json(
            {"operations": [], "summary": empty, "diagnostics": [d.model_dump() for d in diagnostics], "digest": None}
        )
    stderr.print(f"backwright: {file} is refused", markup=False, style="red")
    for diagnostic in diagnostics:
        if diagnostic.severity == "error":
            stderr.print(
                f"  {diagnostic.pointer or '(document)'}: {diagnostic.message}\n    remedy: {diagnostic.remedy}",
                markup=False,
            )
    raise typer.Exit(Exit.BAD_INPUT)


def contracts(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if a generated file is stale.")
    ] = False,
) -> None:
    """Write contracts/schemas, contracts/examples and contracts/asyncapi.yaml from the models, or check them."""
    if not check:
        export.write()
        return
    stale = export.check()
    for line in stale:
        stderr.print(line, markup=False)
    if stale:
        fail(
            Exit.FAILED,
            f"{len(stale)} generated contract file(s) are stale",
            "run `backwright contracts` and commit the result",
        )
    stdout.print("contracts are current")
