"""The folder that SSM sends from: a message is there whole, or not at all."""

import asyncio
import os
from pathlib import Path


class Spool:
    """Files in *folder*, as SSM's outgoing queue of the type ``directory`` takes them: oldest first, each removed once sent.

    They are written beside the folder and moved in. The same name again replaces the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._drafts = folder.parent / f".{folder.name}.drafts"

    async def write(self, name: str, text: str) -> Path:
        """Store *text* (ASCII) on disk and return the file. Raises: OSError; UnicodeEncodeError."""
        return await asyncio.to_thread(self._write, name, text.encode("ascii"))

    def _write(self, name: str, body: bytes) -> Path:
        for folder in (self.folder, self._drafts):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        draft, target = self._drafts / name, self.folder / name
        with draft.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o640)
        draft.replace(target)
        self._settle()
        return target

    def _settle(self) -> None:
        """Make the move itself survive a power cut."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
