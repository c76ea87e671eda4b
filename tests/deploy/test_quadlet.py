"""The Podman quadlet: keys that Podman knows, and the limits that the other ways of running have, too."""

import configparser

from tests.programs import ROOT

FILE = ROOT / "deploy/quadlet/tagger.container"
KNOWN = {
    "AddCapability", "AddDevice", "AutoUpdate", "ContainerName", "DropCapability", "Environment", "EnvironmentFile",
    "Exec", "GroupAdd", "HealthCmd", "Image", "Network", "NoNewPrivileges", "Notify", "PodmanArgs", "PublishPort",
    "ReadOnly", "RunInit", "Secret", "Tmpfs", "User", "UserNS", "Volume",
}  # fmt: skip
"""Keys of `[Container]` in podman-systemd.unit(5) that such a file may want."""


def sections() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FILE)
    return parser


def test_it_has_only_keys_that_podman_knows() -> None:
    assert set(sections()["Container"]) <= KNOWN


def test_the_container_has_no_rights_and_writes_only_its_folder() -> None:
    container = sections()["Container"]
    assert container["ReadOnly"] == "true"
    assert container["NoNewPrivileges"] == "true"
    assert container["DropCapability"] == "all"
    assert container["Volume"].split(":")[1] == "/var/lib/tagger"


def test_it_hears_sound_cards_with_the_groups_of_its_user() -> None:
    container = sections()["Container"]
    assert container["AddDevice"] == "-/dev/snd"
    assert container["GroupAdd"] == "keep-groups"


def test_the_user_inside_is_that_of_the_image() -> None:
    image = (ROOT / "deploy/container/Containerfile").read_text()
    assert "USER 10001:10001" in image
    assert sections()["Container"]["UserNS"] == "keep-id:uid=10001,gid=10001"
