"""Generation of a store: parallel, resumable after any kind of death, and the same bits whatever happened on the way.

The work file ``X.h5.partial`` has its final size from the start. A worker makes a block from the block's own seed on
one thread; the parent writes it, syncs, then writes the block's checksum: a block whose checksum stands in the file is
on disk. The checksums are the journal. Resuming makes the other blocks. The last step is one atomic rename to ``X.h5``.
From the first look at these files to the rename the parent holds the lock of ``X.h5``, so that they are its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from airlam.data.disk import disk_error, reserve, size_text, sync_folder
from airlam.data.layout import (
    TRUTH,
    Column,
    block_digest,
    block_matches,
    create_store,
    missing_blocks,
    open_layout,
    read_rows,
    versions,
    write_rows,
)
from airlam.data.recipe import Block, DatasetRecipe, blocks_of, content_hash, load_dataset_recipe
from airlam.data.workers import make_here, make_in_processes, make_on_ray
from airlam.errors import RecipeError, StoreError
from airlam.io import locked

# A worker costs the seconds of importing Sionna; for fewer links than this the parent alone is done sooner.
MIN_LINKS_PER_WORKER = 512


def generate(
    dataset_recipe: str | Path | dict | DatasetRecipe,
    out: str | Path,
    *,
    workers: int | None = None,
    ray_address: str | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Writes the store of a data set. Run it again after an interruption and it goes on where it stopped.

    The result depends on the recipe alone: not on ``workers``, nor on interruptions (same machine, same versions).

    Args:
        dataset_recipe: a ``datasets/*.yaml`` by name or path, or its plain data.
        out: the file to write; ``OUT.partial`` beside it is the work file.
        workers: processes of one thread each; ``None``: one per core, fewer for small sets.
        ray_address: address of a Ray cluster that does the work instead (``auto``, ``ray://host:10001``).
        resume: go on with the blocks that an unfinished ``OUT.partial`` has; ``False`` starts again.
        overwrite: replace a finished or unfinished store of *another* recipe. What is not an airlam store is never
            touched, and an old store stays until the new one is complete.
        progress: draw a progress bar on the terminal.

    Returns:
        The path of the finished store. If it was there already and complete, nothing is done.

    Raises:
        RecipeError: the recipe cannot be stored.
        StoreError: the target is foreign or holds another recipe's links, somebody else is writing it, or the disk
            is full. What was there stays.
        KeyboardInterrupt: after Ctrl-C, when all workers have stopped; its text says how to go on.

    Example:
        >>> path = generate("datasets/tiny.yaml", "tiny.h5")      # doctest: +SKIP
        >>> CSIStore(path).verify()                               # doctest: +SKIP
    """
    recipe, out = load_dataset_recipe(dataset_recipe), Path(out)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise RecipeError(f"workers is {workers!r}, but must be a whole number of at least 1")
    content = recipe.content
    if not recipe.stackable:
        raise RecipeError(
            "this mixture draws arrays or bands of different shapes, which fit into no store: it is for training on "
            "the fly (num_train: null), without 'airlam generate'"
        )
    if not sum(recipe.num_links.values()):
        raise RecipeError("this data set stores no links: num_val and num_test are 0 and training is on the fly")
    if out.exists() and _is_finished(out, content, overwrite):
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out, by="another 'airlam generate'"):
            if out.exists() and _is_finished(out, content, overwrite):  # by somebody else, since the first look
                return out
            partial = _work_file(out, recipe, resume, overwrite)
            _fill(partial, content, workers, ray_address, progress)
            os.replace(partial, out)
        sync_folder(out.parent)
    except StoreError:
        raise
    except OSError as error:
        raise disk_error(error, out) from error
    return out


def _is_finished(out: Path, content: dict[str, Any], overwrite: bool) -> bool:
    """Whether the store is there with all blocks; raises if the path holds something that must not be replaced."""
    attributes, columns = open_layout(out)
    if attributes["recipe_hash"] == content_hash(content):
        return missing_blocks(out, columns) == 0
    if not overwrite:
        raise StoreError(
            f"{out} holds another data set (recipe {attributes['recipe_hash']}, not {content_hash(content)}); "
            "choose another path with --out, or replace it with --overwrite"
        )
    return False


def _work_file(out: Path, recipe: DatasetRecipe, resume: bool, overwrite: bool) -> Path:
    """The work file ``OUT.partial``: unfinished work on this recipe that is taken up, or a new file.

    Unfinished work may also lie under the final name, where it was renamed or copied to. The caller holds the lock of
    ``out`` and knows that nothing finished lies there.
    """
    content = recipe.content
    partial = out.with_name(out.name + ".partial")
    begun = partial
    if not partial.exists() and out.exists() and open_layout(out)[0]["recipe_hash"] == content_hash(content):
        begun = out
    if begun.exists():
        attributes, _ = open_layout(begun)  # a foreign file is an error, whatever the flags
        same = attributes["recipe_hash"] == content_hash(content)
        if not same and not overwrite:
            raise StoreError(
                f"{begun} is unfinished work on another data set (recipe {attributes['recipe_hash']}); "
                "choose another path with --out, or drop it with --overwrite"
            )
        if resume and same:
            if attributes["versions"] != _versions_text():
                raise StoreError(
                    f"{begun} was begun with other versions ({attributes['versions']}), and mixing them would mix "
                    "bits; go on with those, or start again with --no-resume"
                )
            if begun != partial:
                os.replace(begun, partial)
            return partial
    fresh = partial.with_name(partial.name + ".new")  # becomes the work file when it is sound
    fresh.unlink(missing_ok=True)  # of a process that was killed
    try:
        create_store(fresh, content, recipe.channel_model)
        reserve(fresh)
        os.replace(fresh, partial)
    finally:
        fresh.unlink(missing_ok=True)
    return partial


def _versions_text() -> str:
    return json.dumps(versions(), sort_keys=True)


def _fill(partial: Path, content: dict[str, Any], workers: int | None, ray_address: str | None, progress: bool) -> None:
    """Makes and writes the blocks that are missing in the work file."""
    _, columns = open_layout(partial)
    file = os.open(partial, os.O_RDWR)
    try:
        _fill_blocks(partial, file, columns, content, workers, ray_address, progress)
    finally:
        os.close(file)


def _fill_blocks(
    partial: Path,
    file: int,
    columns: dict[str, Column],
    content: dict[str, Any],
    workers: int | None,
    ray_address: str | None,
    progress: bool,
) -> None:
    blocks = blocks_of(content)
    checksums = read_rows(file, columns["checksum"], 0, len(blocks))
    # A checksum alone proves nothing after a disk fault: only bytes that still match are kept.
    done = {
        n for n, block in enumerate(blocks) if checksums[n].any() and block_matches(file, columns, block, checksums[n])
    }
    todo = {n: block for n, block in enumerate(blocks) if n not in done}
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, min(cores, sum(block.count for block in todo.values()) // MIN_LINKS_PER_WORKER))
    if ray_address:
        made, who = make_on_ray(content, todo, ray_address), f"Ray at {ray_address}"
    elif min(workers, len(todo)) > 1:
        made, who = make_in_processes(content, todo, workers), f"{workers} workers"
    else:
        made, who = make_here(content, todo), "1 worker"
    bar = _Progress(blocks, done, columns["h"].row_bytes, who) if progress else None
    finished = len(done)
    try:
        with bar or contextlib.nullcontext(), contextlib.closing(made):
            for number, arrays in made:
                block = blocks[number]
                for name in ("h", *TRUTH):
                    write_rows(file, columns[name], block.start, arrays[name])
                os.fsync(file)
                write_rows(file, columns["checksum"], number, block_digest(arrays))
                finished += 1
                if bar:
                    bar.advance(block.count)
        os.fsync(file)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: {finished} of {len(blocks)} blocks are safe in {partial}; "
            "run the same command again to go on"
        ) from None


class _Progress:
    """Progress on the terminal: links, rate, time left, size."""

    def __init__(self, blocks: list[Block], done: set[int], link_bytes: int, who: str) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        from airlam.progress import ProgressLines

        total = sum(block.count for block in blocks)
        self.kept = sum(blocks[n].count for n in done)
        self.bar = ProgressLines(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} links, {task.fields[rate]}"),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        note = f", {self.kept} kept from before" if self.kept else ""
        self.bar.console.print(f"{total} links, {size_text(total * link_bytes)} on disk, {who}{note}")
        self.task = self.bar.add_task("generate", total=total, completed=self.kept, rate="starting")
        self.links, self.start = 0, time.monotonic()

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, links: int) -> None:
        self.links += links
        rate = self.links / max(time.monotonic() - self.start, 1e-9)
        self.bar.update(self.task, advance=links, rate=f"{rate:.0f} links/s")
