"""`fleet.toml`, and lists of sources beside it."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tagger.errors import UserError
from tagger.fleet import file
from tagger.fleet.file import load, node_settings

BROKER = '[mqtt]\nurl = "mqtt://broker.local"\nnode = "city"\n'
TABLE = '[[source]]\nname = "Garden"\nurl = "demo"\nthreshold = 0.7\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def test_sources_stand_in_tables_and_in_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text('name,url,labels,gain_db\nroof,rtsp://cam/1,dog;siren,3\n"Yard 2",demo,,\n')
    found = load(written(tmp_path, f'{BROKER}[fleet]\nsources = "more.csv"\nworkers = 3\n{TABLE}'))
    assert found.sources() == {
        "garden": "Garden=demo,threshold=0.7",
        "roof": "roof=rtsp://cam/1,labels=dog+siren,gain_db=3",
        "yard_2": "Yard 2=demo",
    }
    assert found.fleet.workers == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_may_be_what_a_spreadsheet_of_another_country_writes(tmp_path: Path, encoding: str) -> None:
    rows = ["name;url;labels;threshold;gain_db;", 'Kueche;demo;"dog;siren";0,7;;', ";;;;;", ""]
    (tmp_path / "more.csv").write_text("\r\n".join(rows), encoding, newline="")
    found = load(written(tmp_path, f'{BROKER}[fleet]\nsources = "more.csv"\n')).sources()
    assert found == {"kueche": "Kueche=demo,labels=dog+siren,threshold=0.7"}


def test_sources_come_from_a_url(tmp_path: Path) -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps([{"name": "roof", "url": "demo"}]).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/streams"
        assert load(written(tmp_path, f'{BROKER}[fleet]\nsources = "{url}"\n')).sources() == {"roof": "roof=demo"}
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "fleet.toml").sources()


def test_a_server_that_sends_a_little_at_a_time_for_ever_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trickling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b" ")

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setattr(file, "URL_SECONDS", 0.2)
    monkeypatch.setattr(file, "MOST_BYTES", 1 << 60)
    with HTTPServer(("127.0.0.1", 0), Trickling) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        found = load(written(tmp_path, f'{BROKER}[fleet]\nsources = "http://127.0.0.1:{server.server_port}/x"\n'))
        with pytest.raises(UserError, match=r"not all of it came within 0\.2 s|timed out"):
            found.sources()


def test_a_list_that_cannot_be_read_leaves_the_settings(tmp_path: Path) -> None:
    found = load(written(tmp_path, f'{BROKER}[fleet]\nsources = "none.csv"\n'))
    assert found.settings.mqtt is not None
    with pytest.raises(UserError, match="No such file"):
        found.sources()


def test_each_worker_is_a_node_of_its_own(tmp_path: Path) -> None:
    settings = node_settings(
        load(written(tmp_path, f"{BROKER}{TABLE}[http]\nport = 9000\n[web]\naddress = '8421'\n")).settings, "city-2"
    )
    assert settings.mqtt is not None
    assert settings.mqtt.node == "city-2"
    assert (settings.http, settings.web) == (None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'[mqtt]\nurl = "none"\n{TABLE}', "a fleet needs a broker"),
        (BROKER, "no source"),
        (f"{BROKER}{TABLE}{TABLE}", "Garden is taken"),
        (f'{BROKER}[[source]]\nurl = "demo"\n', "has no name"),
        (f'{BROKER}[[source]]\nname = "status"\nurl = "demo"\n', "status is taken"),
        (f'{BROKER}{TABLE}[sinks.jsonl]\npath = "x.jsonl"\n', "jsonl is for one daemon"),
        (
            f'{BROKER}{TABLE}[web]\naddress = "8421"\ndatabase = "postgresql://db/x"\n',
            "web.database: a fleet's page shows what is heard",
        ),
        (f"{BROKER}{TABLE}[fleet]\nworkers = 0\n", "fleet.workers: must be from 1 to 1000"),
        (f"{BROKER}{TABLE}[fleet]\nworker = 2\n", "fleet.worker: is unknown; did you mean workers?"),
        (f'{BROKER}[fleet]\nsources = "no.csv"\n', "no.csv: No such file"),
        (f'{BROKER}[fleet]\nsources = "bad.csv"\n', "bad.csv, line 2: has not as many cells"),
        (f'{BROKER}[fleet]\nsources = "odd.csv"\n', "column 'uri' is unknown"),
        (f'{BROKER}[fleet]\nsources = "twice.csv"\n', "column 'name' is there more than once"),
        (f'{BROKER}[fleet]\nsources = "wrong.csv"\n', "wrong.csv, line 2: gain_db: cannot be"),
        (f'{BROKER}[fleet]\nsources = "bad.json"\n', "bad.json: is no JSON"),
        (f'{BROKER}[fleet]\nsources = "object.json"\n', "object.json: must be a list of sources"),
        (f'{BROKER}[fleet]\nsources = "nameless.json"\n', "nameless.json: source 2 (demo): has no name"),
        (f'{BROKER}{TABLE}[fleet]\nsources = "nameless.csv"\n', "nameless.csv, line 3: has no name"),
        (f'{BROKER}{TABLE}[fleet]\nsources = "taken.csv"\n', "taken.csv: source 2: Garden is taken"),
        (f'{BROKER}[fleet]\nsources = "quote.csv"\n', "quote.csv: is no CSV: after line 1"),
        (f'{BROKER}[[source]]\nname = "x"\nurl = "ftp:/x"\n', "ftp:/...: a URL has two slashes"),
        (f'{BROKER}[[source]]\nname = "x"\nurl = "rtsp:/u:pw@x"\n', "rtsp:/...: a URL has two slashes"),
        (f'{BROKER}[[source]]\nname = "x"\nurl = "ftp://x/y"\n', "ftp: this kind of URL is no source"),
        (f'{BROKER}[fleet]\nsources = "a\\u0000b"\n', "must not hold a zero character"),
        (f'{BROKER}[fleet]\nsources = "http://u:pw@127.0.0.1:9/x"\n', "http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.csv").write_text("name,url\nroof\n")
    (tmp_path / "odd.csv").write_text("name,url,uri\nroof,demo,x\n")
    (tmp_path / "twice.csv").write_text("name,url,name\nroof,demo,yard\n")
    (tmp_path / "wrong.csv").write_text("name,url,gain_db\nroof,demo,much\n")
    (tmp_path / "bad.json").write_text("[{")
    (tmp_path / "object.json").write_text('{"name": "roof", "url": "demo"}')
    (tmp_path / "nameless.json").write_text('[{"name": "roof", "url": "demo"}, {"url": "demo"}]')
    (tmp_path / "nameless.csv").write_text("name,url\nroof,demo\n,demo\n")
    (tmp_path / "taken.csv").write_text("name,url\nroof,demo\nGarden,demo\n")
    (tmp_path / "quote.csv").write_text('name,url\nroof,"demo\n')
    with pytest.raises(UserError) as refused:
        load(written(tmp_path, text)).sources()
    assert "pw" not in str(refused.value)
    assert words in str(refused.value)
