"""A results database in a directory: documents as JSON files, blobs as files."""

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from prefect_lume.errors import IntegrityError, NotFoundError, StorageError
from prefect_lume.results.stores import toolkit as kit


class FileDBServiceConfig(kit.DBServiceConfig):
    """Where the files are."""

    directory: Path


class FileDBService(kit.DBService):
    """Results in a directory. Writers wait for each other, readers never wait."""

    def __init__(self, config: FileDBServiceConfig) -> None:
        super().__init__(config)
        self.root, self.unique = config.directory.absolute(), set[kit.DeclaredIndex]()
        self.root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _open(self, name: str, mode: str = "rb") -> Iterator[IO[Any]]:
        try:
            with (self.root / name).open(mode) as file:
                if mode == "a":  # The writers' lock, held until the file is closed.
                    fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except FileNotFoundError:
            raise NotFoundError(name.partition("/")[0], name[-64:]) from None
        except (OSError, json.JSONDecodeError) as error:
            raise StorageError(f"{self.root}: {error}", str(self.root)) from error

    def _name(self, collection: str, key: str = "[!.]*") -> str:
        folder = kit.sha256_bytes(kit.check_collection(collection).encode())
        return f"result/{folder}/{key}"

    def _trees(self, names: str) -> Iterator[kit.Tree]:
        for path in self.root.glob(names):
            with suppress(NotFoundError), self._open(str(path)) as file:  # Else: gone.
                yield json.load(file)

    def prepare(self, docs: Iterable[type[kit.DocumentBase]]) -> None:
        indices = {one for doc in docs for one in kit.declared(doc) if one.unique}
        with self._open("lock", "a"):
            for index in indices - self.unique:
                for collection in self.collections():
                    kit.check_unique(index, self._trees(self._name(collection)))
                self.unique.add(index)

    def insert(self, collection: str, new: kit.Encoded, replace: bool = False) -> bool:
        kit.check_document(collection, new.tree)
        for sha256, data in new.blobs.items():
            self.put_blob(sha256, data)
        target = self.root / self._name(collection, new.tree["_id"])
        with self._open("lock", "a"):
            if target.exists() and not replace:
                return False
            for sha256 in kit.blobs_of(new.tree, self.get_blob):
                if not kit.renew(self.root / "blob" / sha256):
                    raise IntegrityError(f"{self.root}: no blob {sha256[:12]}….")
            for index in self.unique:
                others = self._trees(self._name(collection))
                kit.check_unique(index, [*others, new.tree])
            kit.write_file(target, [kit.to_json(new.tree).encode()])
        return True

    def replace(self, collection: str, encoded: kit.Encoded) -> None:
        self.insert(collection, encoded, replace=True)

    def get(self, collection: str, unique_hash: str) -> kit.Tree:
        with self._open(self._name(collection, unique_hash)) as file:
            return dict(json.load(file))

    def find(self, collection: str, *args: Any, **options: Any) -> Iterator[kit.Tree]:
        documents = partial(self._trees, self._name(collection))
        return kit.scan(documents, partial(self.get, collection), *args, **options)

    def collections(self) -> list[str]:
        return sorted({t["project_name"] for t in self._trees("result/*/[!.]*")})

    def delete(self, collection: str, query: kit.Query) -> int:
        with self._open("lock", "a"):
            for tree in (found := list(self.find(collection, query, projection=[]))):
                (self.root / self._name(collection, tree["_id"])).unlink()
        return len(found)

    def write_blob(self, sha256: str, size: int, pieces: Iterable[kit.Data]) -> None:
        target = self.root / "blob" / sha256
        with self._open("lock", "a"):
            there = kit.renew(target)
        if not there:
            kit.write_file(target, kit.verified(sha256, size, pieces))

    def read_blob(self, sha256: str) -> Iterator[bytes]:
        with self._open(f"blob/{sha256}") as file:
            yield from iter(partial(file.read, kit.PIECE_SIZE), b"")

    def blobs_before(self, moment: datetime) -> list[kit.BlobInfo]:
        files = [(path.name, path.stat()) for path in self.root.glob("blob/[!.]*")]
        old = [(name, s) for name, s in files if s.st_mtime < moment.timestamp()]
        return [kit.BlobInfo(name, s.st_size) for name, s in old]

    def delete_blob(self, sha256: str, before: datetime) -> bool:
        with self._open("lock", "a"):
            if old := sha256 in dict(self.blobs_before(before)):
                (self.root / "blob" / sha256).unlink()
        return old

    def close(self) -> None:
        """Do nothing: no file is held open."""
