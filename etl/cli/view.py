"""``groundlake view``: pictures for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etl.cli.common import LakeOption, open_context, out

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Look at pictures and their annotations.")


@app.callback()
def _view() -> None:
    pass  # makes ``sheet`` a subcommand although it is the only one


@app.command("sheet")
def sheet(
    file: Annotated[Path, typer.Option("--out", help="The PNG file to write.")],
    source: Annotated[str | None, typer.Option("--source", help="Only pictures of this source.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="Pictures at most.")] = 12,
    lake: LakeOption = None,
) -> None:
    """Draw sample pictures with their boxes, masks, labels and captions on one page.

    For example:

        groundlake view sheet --out sheet.png

        groundlake view sheet --out news.png --source news --limit 24
    """
    from etl.viewer.contact_sheet import contact_sheet

    context = open_context(lake, reading=True)
    drawn = contact_sheet(context.lake, file, limit=limit, source=source)
    out.print(f"{drawn} pictures: {file.resolve()}", markup=False)
