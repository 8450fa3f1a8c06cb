from typing import Any

import pytest

from squib.contracts.errors import InvalidRequest
from squib.host.firecracker import body, models


def test_what_is_not_said_is_left_out() -> None:
    drive = models.Drive("root", True, "/root.squashfs", is_read_only=True)
    assert body.dump(drive) == (
        b'{"drive_id":"root","is_root_device":true,"path_on_host":"/root.squashfs","is_read_only":true}'
    )
    limits = models.RateLimiter(bandwidth=models.TokenBucket(1, 2))
    assert body.dump(models.PartialDrive("root", rate_limiter=limits)) == (
        b'{"drive_id":"root","rate_limiter":{"bandwidth":{"size":1,"refill_time":2}}}'
    )
    assert body.dump(models.InstanceActionInfo(models.Action.INSTANCE_START)) == b'{"action_type":"InstanceStart"}'


def test_metadata_keep_their_nulls() -> None:
    """A null in a merge patch removes."""
    assert body.dump({"gone": None, "ü": [None]}) == '{"gone":null,"ü":[null]}'.encode()


def test_nulls_and_hyphens_of_the_whole_configuration() -> None:
    raw = b'{"drives":[],"boot-source":{"kernel_image_path":""},"machine-config":{"vcpu_count":1,"mem_size_mib":2},'
    raw += b'"network-interfaces":[{"iface_id":"net","host_dev_name":"tap0","guest_mac":null}],"vsock":null}'
    found = body.load(models.FullVmConfiguration, raw)
    assert found.machine_config == models.MachineConfiguration(1, 2)
    assert found.network_interfaces == (models.NetworkInterface("net", "tap0"),)
    assert found.vsock is None


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'{"vcpu_count":1}', b'{"vcpu_count":"1","mem_size_mib":2}'])
def test_answers_that_do_not_fit(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        body.load(models.MachineConfiguration, raw)


def test_an_object_of_any_content() -> None:
    found = body.load(dict[str, Any], b'{"a":[1,null]}')
    assert found == {"a": [1, None]}
