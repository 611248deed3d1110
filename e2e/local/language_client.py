"""An editor, as far as a language server sees one: JSON-RPC over the pipes of a process."""

import json
import queue
import subprocess
import threading
from pathlib import Path

TIMEOUT_S = 60


class LanguageClient:
    def __init__(self, process: subprocess.Popen, root: Path):
        self.process = process
        self._messages: queue.Queue[dict | None] = queue.Queue()
        self._notifications: list[dict] = []
        self._last_id = 0
        self._versions: dict[Path, int] = {}
        threading.Thread(target=self._read, daemon=True).start()
        self.capabilities = self.request("initialize", processId=None, rootUri=root.as_uri(), capabilities={})["capabilities"]
        self.notify("initialized")

    def _read(self):
        while header := self.process.stdout.readline():
            assert self.process.stdout.readline() == b"\r\n"
            self._messages.put(json.loads(self.process.stdout.read(int(header.partition(b":")[2]))))
        self._messages.put(None)

    def send(self, body: bytes):
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def notify(self, method: str, **parameters):
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": parameters}).encode())

    def answer(self, id: int | None) -> dict:
        """The answer to a request; what comes before it is kept."""
        while (message := self._messages.get(timeout=TIMEOUT_S)) is not None:
            if "method" not in message and message["id"] == id:
                return message
            self._notifications.append(message)
        raise AssertionError("the server ended")

    def request(self, method: str, **parameters):
        self._last_id += 1
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": parameters}
        self.send(json.dumps(message).encode())
        answer = self.answer(self._last_id)
        assert "result" in answer, answer
        return answer["result"]

    def show(self, path: Path, text: str | None = None) -> list[dict]:
        """Opens a document, or changes its text; the diagnostics of this text."""
        text = path.read_text() if text is None else text
        version = self._versions[path] = self._versions.get(path, 0) + 1
        document = {"uri": path.as_uri(), "version": version}
        if version == 1:
            self.notify("textDocument/didOpen", textDocument={**document, "languageId": "yaml", "text": text})
        else:
            self.notify("textDocument/didChange", textDocument=document, contentChanges=[{"text": text}])
        return self.diagnostics(path, version)

    def diagnostics(self, path: Path, version: int | None) -> list[dict]:
        """Those that are published of a version; none may come of an older one after it."""
        while True:
            while self._notifications:
                message = self._notifications.pop(0)
                if message.get("method") == "textDocument/publishDiagnostics":
                    published = message["params"]
                    if published["uri"] == path.as_uri() and published.get("version") == version:
                        return published["diagnostics"]
            message = self._messages.get(timeout=TIMEOUT_S)
            assert message is not None, "the server ended"
            self._notifications.append(message)

    def at(self, method: str, path: Path, text: str, mark: str):
        """Asks about the place of `|` in `mark`, which stands in the text without it."""
        offset = text.index(mark.replace("|", "")) + mark.index("|")
        line = text[:offset].count("\n")
        before = text[:offset].rpartition("\n")[2]
        position = {"line": line, "character": len(before.encode("utf-16-le")) // 2}
        return self.request(f"textDocument/{method}", textDocument={"uri": path.as_uri()}, position=position)

    def end(self) -> int:
        self.request("shutdown")
        self.notify("exit")
        return self.process.wait(timeout=TIMEOUT_S)
