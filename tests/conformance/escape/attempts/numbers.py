"""The numbers of the system calls that are tried, by processor."""

_X86_64 = """
    mount 165 umount2 166 unshare 272 setns 308 ptrace 101 process_vm_readv 310 process_vm_writev 311 keyctl 250
    add_key 248 request_key 249 bpf 321 userfaultfd 323 perf_event_open 298 clone 56 pivot_root 155 chroot 161
    open_by_handle_at 304 name_to_handle_at 303 init_module 175 finit_module 313 delete_module 176 kexec_load 246
    reboot 169 swapon 167 swapoff 168 acct 163 quotactl 179 syslog 103 iopl 172 ioperm 173 clock_settime 227
    settimeofday 164 adjtimex 159 kcmp 312 fanotify_init 300 sethostname 170 setdomainname 171
    capset 126 socket 41 ioprio_set 251
"""
_AARCH64 = """
    mount 40 umount2 39 unshare 97 setns 268 ptrace 117 process_vm_readv 270 process_vm_writev 271 keyctl 219
    add_key 217 request_key 218 bpf 280 userfaultfd 282 perf_event_open 241 clone 220 pivot_root 41 chroot 51
    open_by_handle_at 265 name_to_handle_at 264 init_module 105 finit_module 273 delete_module 106 kexec_load 104
    reboot 142 swapon 224 swapoff 225 acct 89 quotactl 60 syslog 116 clock_settime 112 settimeofday 170
    adjtimex 171 kcmp 272 fanotify_init 262 sethostname 161 setdomainname 162 capset 91
    socket 198 ioprio_set 30
"""
#: From 424 on they are the same on all.
_ALL = """
    io_uring_setup 425 open_tree 428 move_mount 429 fsopen 430 fspick 433 clone3 435 pidfd_getfd 438
    mount_setattr 442
"""


def _parse(text: str) -> dict[str, int]:
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


NUMBERS = {"x86_64": _parse(_X86_64 + _ALL), "aarch64": _parse(_AARCH64 + _ALL)}
