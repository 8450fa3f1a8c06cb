import base64
import time
from dataclasses import replace
from pathlib import Path

from squib.contracts import ids
from squib.contracts.machine import MachineSpec
from squib.host import HostConfig, making
from squib.host.bases import Bases
from squib.host.cgroups import Cgroups
from squib.host.ground import Ground
from squib.host.images import Images
from squib.host.layout import StateDir
from squib.link import guest_token, token_digest

KEY = b"k" * 32


def test_an_identity_is_the_machines_own_and_lasts_but_for_chance_and_time() -> None:
    one, again, other = (making.identity(KEY, name) for name in ("mch-one-one-one", "mch-one-one-one", "mch-two-two"))
    lasting = {"entropy": "", "time": 0.0}
    assert replace(one, **lasting) == replace(again, **lasting)  # type: ignore[arg-type]
    assert one.entropy != again.entropy
    assert len(base64.b64decode(one.entropy)) >= 32
    assert abs(one.time - time.time()) < 60
    for field in ("sandbox_id", "token_sha256", "hostname", "machine_id"):
        assert getattr(one, field) != getattr(other, field)
    assert one.token_sha256 == token_digest(guest_token(KEY, "mch-one-one-one"))
    assert len(bytes.fromhex(one.machine_id)) == 16
    assert making.identity(b"x" * 32, "mch-one-one-one").machine_id != one.machine_id


def test_a_guest_is_told_the_images_environment_and_its_own_name() -> None:
    spec = MachineSpec(ids.new_id("mch"), environment={"WHO": "world"})
    config = making.guest_config(spec, KEY)
    assert config.environment == {"WHO": "world"}
    assert config.hostname == making.identity(KEY, spec.id).hostname
    assert config.hostname.replace("-", "").isalnum()


def test_what_a_machine_is_made_with_names_guest_image_and_settings(tmp_path: Path) -> None:
    config = HostConfig(tmp_path, KEY)
    ground = Ground(StateDir(tmp_path), tmp_path / "guest-1.pyz", Cgroups((), "x"), None, Bases(Images(tmp_path)))
    one = making.made_with(config, ground, "gvisor", "host")
    others = [
        making.made_with(config, ground, "qemu", "host"),
        making.made_with(config, ground, "gvisor", "/state/images/0123/rootfs"),
        making.made_with(replace(config, agents={"claude": {"model": "x"}}), ground, "gvisor", "host"),
        making.made_with(replace(config, tools=tmp_path), ground, "gvisor", "host"),
        making.made_with(config, replace(ground, guest=tmp_path / "guest-2.pyz"), "gvisor", "host"),
    ]
    assert len({one, *others}) == 6
    moved = making.made_with(config, ground, "gvisor", "/elsewhere/images/0123/rootfs")
    assert moved == others[1], "an image is the same wherever it lies"
