"""The page that verifies packs in a browser, against the native verifier: the same sources, so the same document.

The packs are made by an example of `chancery-evidence`; no gateway is needed."""

import json
import os
import pathlib
import socket
import subprocess

import pytest

from rig import Missing, chromium, process
from rig.need import need

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", process.ROOT / "target"))
PAGE = process.ROOT / "target/browser/verify.html"
SESSIONS = 120
# Blocks of the container, as `docs/spec/pack.md` has it.
BLOCK = 512


def built(path, how):
    if not path.exists():
        raise Missing(f"{path.name} ({how})")
    return path


def example(name):
    return need(lambda: built(TARGET / "debug/examples" / name, "cargo build -p chancery-evidence --examples"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pack and its roots."""
    where = tmp_path_factory.mktemp("pack")
    subprocess.run([example("make-pack"), where / "pack", where / "roots", str(SESSIONS)], check=True)
    return where / "pack", where / "roots"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = need(lambda: chromium.Browser(tmp_path_factory.mktemp("chromium") / "browser"))
    yield started
    started.stop()


@pytest.fixture
def page(browser):
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip()
    if not (pathlib.Path(sysroot) / "lib/rustlib/wasm32-unknown-unknown").is_dir():
        pytest.skip("missing: the target wasm32-unknown-unknown of this Rust, which comes with rustup")
    need(lambda: built(PAGE, "cargo xtask browser"))
    opened = browser.open(PAGE.as_uri())
    opened.until("document.body && document.body.dataset.state === 'ready'")
    yield opened
    opened.close()


def natively(pack, roots):
    done = subprocess.run([example("verify-pack"), pack, roots], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr.strip()


def in_page(page, files, roots, **fields):
    """What the page says: the document, or the line that says why there is none."""
    page.choose("#pack", files)
    texts = {"roots": pathlib.Path(roots).read_text(), "policy": "", "checkpoint": "", **fields}
    for name, text in texts.items():
        page.evaluate(f"document.getElementById({json.dumps(name)}).value = {json.dumps(text)}")
    page.evaluate("delete document.body.dataset.state; document.getElementById('verify').click()")
    page.until("document.body.dataset.state === 'done'")
    if page.evaluate("document.getElementById('result').hidden"):
        return page.evaluate("document.getElementById('status').textContent")
    return json.loads(page.evaluate("document.getElementById('document').textContent"))


def text_of(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")


def members(pack):
    """Names of members and where their bytes are."""
    found, at = {}, 0
    while name := pack[at:at + 100].rstrip(b"\0").decode():
        size = int(pack[at + 124:at + 135], 8)
        found[name.removeprefix("pack/")] = (at + BLOCK, size)
        at += BLOCK + -(-size // BLOCK) * BLOCK
    return found


def test_a_whole_pack_passes_as_it_does_natively(page, made):
    pack, roots = made
    code, document = natively(pack, roots)
    assert code == 0 and document["verdict"] == "PASS", document
    assert in_page(page, [pack], roots) == document
    assert "PASS" in text_of(page, "#verdict")
    facts = text_of(page, "#facts")
    assert document["root"] in facts and f"{document['entries']:,}" in facts
    assert "First bad entry" not in facts
    # No policy was given: the page says what that leaves open.
    assert "wrote the ledger anew" in text_of(page, "#limits")
    rows = page.evaluate("document.querySelectorAll('#checks tbody tr').length")
    assert rows == len(document["checks"]) > 10
    assert page.evaluate("document.querySelectorAll('#controls tbody tr').length") == len(document["controls"])


def flipped(pack, at, to):
    other = pathlib.Path(f"{pack}.{at}")
    data = bytearray(pack.read_bytes())
    data[at] ^= to
    other.write_bytes(data)
    return other


@pytest.mark.parametrize("where", ["entry", "tile", "checkpoint", "population", "recording", "rules", "chain"])
def test_one_changed_byte_fails_as_it_does_natively(page, made, where):
    pack, roots = made
    data = pack.read_bytes()
    found = members(data)
    one = {
        "tile": "ledger/tile/0/000",
        "checkpoint": "ledger/checkpoint",
        "population": "populations/P05.jsonl",
        "chain": "directory/chains.jsonl",
        "recording": next(name for name in found if name.startswith("recordings/")),
        "rules": next(name for name in found if name.startswith("rules/")),
    }
    if where == "entry":
        # A figure of an outcome in the second bundle.
        begin, size = found["ledger/tile/entries/001"]
        at = data.index(b'"rows":', begin, begin + size) + len(b'"rows":')
        other = flipped(pack, at, 1)
    else:
        begin, size = found[one[where]]
        other = flipped(pack, begin + size // 2, 1)
    code, document = natively(other, roots)
    assert code == 1 and document["verdict"] == "FAIL", document
    assert in_page(page, [other], roots) == document
    assert "FAIL" in text_of(page, "#verdict")
    failed = [check["check"] for check in document["checks"] if check["verdict"] == "FAIL"]
    shown = page.evaluate("[...document.querySelectorAll('#checks tbody tr')]"
                          ".filter((row) => row.cells[1].innerText.includes('FAIL')).map((row) => row.cells[0].innerText)")
    assert shown == failed
    if where == "entry":
        bad = document["first_bad_entry"]
        assert bad is not None and 256 <= bad < 512
        assert f"First bad entry\n{bad}\n" in text_of(page, "#facts") + "\n"


def test_roots_of_another_log_fail_and_half_of_them_are_inconclusive(page, made, tmp_path):
    pack, roots = made
    lines = roots.read_text().splitlines()
    other = tmp_path / "roots"
    other.write_text("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
    half = tmp_path / "half"
    half.write_text(lines[0] + "\n")
    for given, verdict, exit_code in ((other, "FAIL", 1), (half, "INCONCLUSIVE", 2)):
        code, document = natively(pack, given)
        assert (code, document["verdict"]) == (exit_code, verdict)
        assert in_page(page, [pack], given) == document
        assert verdict in text_of(page, "#verdict")


def test_a_checkpoint_of_ones_own_counts(page, made):
    pack, roots = made
    data = pack.read_bytes()
    begin, size = members(data)["ledger/checkpoint"]
    note = data[begin:begin + size].decode()
    assert in_page(page, [pack], roots, checkpoint=note)["verdict"] == "PASS"
    assert in_page(page, [pack], roots, checkpoint=note.rstrip("\n"))["verdict"] == "PASS"
    document = in_page(page, [pack], roots, checkpoint=note.replace("\n\n", "\nx\n\n"))
    assert document["verdict"] == "FAIL"


def test_parts_are_taken_together_and_only_all_of_them(page, made, tmp_path):
    pack, roots = made
    data = pack.read_bytes()
    third = len(data) // 3 + 1
    parts = []
    for number in range(3):
        part = tmp_path / f"pack.{number + 1:03}"
        part.write_bytes(data[number * third:(number + 1) * third])
        parts.append(part)
    # In any order of choosing.
    assert in_page(page, [parts[2], parts[0], parts[1]], roots) == natively(pack, roots)[1]
    assert in_page(page, [parts[0], parts[2]], roots) == "part 002 is missing"
    assert in_page(page, [parts[0], pack], roots) == "several files are chosen that are not parts of a pack"
    assert "the container is cut" in in_page(page, parts[:2], roots)


def test_what_is_no_pack_and_no_roots_is_said_plainly(page, made, tmp_path):
    pack, roots = made
    data = pack.read_bytes()
    for number, other in enumerate((data[:-1], data + b"\0", data[BLOCK:], b"PK\3\4" + data[4:], b"")):
        cut = tmp_path / f"cut{number}"
        cut.write_bytes(other)
        code, told = natively(cut, roots)
        assert code == 3
        assert in_page(page, [cut], roots) == told
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "the roots are missing" in in_page(page, [pack], empty)
    empty.write_text("no key\n")
    assert in_page(page, [pack], empty).startswith("the roots: ")
    assert in_page(page, [pack], roots, policy="nonsense").startswith("the policy: ")
    assert in_page(page, [], roots) == "choose a pack"
    # And after all that it still verifies.
    assert in_page(page, [pack], roots)["verdict"] == "PASS"


def test_nothing_leaves_the_page(page, made):
    pack, roots = made
    in_page(page, [pack], roots)
    asked = {event["request"]["url"] for event in page.seen("Network.requestWillBeSent")}
    assert asked == {PAGE.as_uri()}
    assert not page.seen("Runtime.exceptionThrown")
    assert not page.seen("Log.entryAdded")
    # The page's own policy forbids it as well, whatever stood in its script.
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        page.evaluate("document.addEventListener('securitypolicyviolation', (event) => (window.broken ??= [])"
                      ".push(event.effectiveDirective))")
        assert page.evaluate(f"fetch('{url}').then(() => 'sent', () => 'refused')") == "refused"
        page.evaluate(f"new Promise((done) => {{ const image = new Image(); image.onerror = done; image.src = '{url}'; }})")
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), "
                      "{ textContent: 'window.foreign = true' }))")
        assert page.evaluate("window.foreign") is None
        assert {"connect-src", "img-src", "script-src-elem"} <= set(page.evaluate("window.broken"))
        with pytest.raises(TimeoutError):
            server.accept()


def test_hostile_names_in_a_pack_are_text(page, made):
    pack, roots = made
    data = bytearray(pack.read_bytes())
    begin, size = members(data)["directory/chains.jsonl"]
    # The manifest's hash is another then, and the message names a path of the pack; markup stays text either way.
    data[begin:begin + 3] = b"<b>"
    other = pathlib.Path(f"{pack}.markup")
    other.write_bytes(data)
    document = in_page(page, [other], roots)
    assert document["verdict"] == "FAIL"
    assert page.evaluate("document.querySelectorAll('#result b, #result img, #result script').length") == 0


def test_the_page_is_usable_by_keyboard_and_readers(page, made):
    pack, roots = made
    unnamed = page.evaluate("[...document.querySelectorAll('input, textarea')]"
                            ".filter((field) => field.labels.length === 0).map((field) => field.id)")
    assert unnamed == []
    assert page.evaluate("document.documentElement.lang") == "en"
    in_page(page, [pack], roots)
    assert page.evaluate("document.activeElement.id") == "verdict"
    assert page.evaluate("[...document.querySelectorAll('#checks tbody th')].every((cell) => cell.scope === 'row')")
    # No row of the page is wider than a narrow screen.
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1, mobile=False)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_large_pack_is_read_in_pieces(page, made, tmp_path):
    _, roots = made
    large = tmp_path / "large"
    subprocess.run([example("make-pack"), large, tmp_path / "roots", "3000"], check=True)
    page.evaluate("{ const finish = Verifier.prototype.finish; Verifier.prototype.finish = function () {"
                  " const code = finish.call(this); window.held = this.calls.memory.buffer.byteLength; return code; } }")
    assert in_page(page, [large], roots)["verdict"] == "PASS"
    assert page.evaluate("window.held") * 3 < large.stat().st_size
    # Stopping decides nothing.
    page.evaluate("delete document.body.dataset.state; document.getElementById('verify').click();"
                  "document.getElementById('stop').click()")
    page.until("document.body.dataset.state === 'done'")
    assert "nothing was decided" in text_of(page, "#status")
    assert page.evaluate("document.getElementById('result').hidden")
