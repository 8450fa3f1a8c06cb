#!/bin/busybox sh
# The first program of a virtual machine, in its initramfs: it puts the root file system together and goes over to
# the guest's own Python. Whatever fails here says so and ends the machine.
# The kernel's command line tells it `squib.python=PATH` and more; /squib/ has the guest and its configuration.
set -e
/bin/busybox mkdir -p /proc /sys /dev /bin
/bin/busybox --install -s /bin
export PATH=/bin
trap 'echo "squib: the machine can not start"; poweroff -f' EXIT
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,noexec,mode=0755 dev /dev
# The network's driver may spin for ever when the machine is switched off while something is being sent, unless it
# clears up by itself as it sends (napi_tx=0).
for module in $(cat /modules/order); do
    case $module in
        virtio_net.ko) insmod "/modules/$module" napi_tx=0 ;;
        *) insmod "/modules/$module" ;;
    esac
done
while [ ! -b /dev/vda ] || [ ! -b /dev/vdb ]; do sleep 0.01; done

python=/usr/bin/python3
for word in $(cat /proc/cmdline); do
    case $word in
        squib.python=*) python=${word#*=} ;;
        squib.pids=*) pids=${word#*=} ;;
        squib.hostname=*) hostname "${word#*=}" ;;
        squib.check)
            echo 'squib: the kernel runs'
            trap - EXIT
            poweroff -f
            ;;
    esac
done

mkdir -p /new /drive
mount -t squashfs -o ro,nodev /dev/vda /new
mount -t ext4 -o nosuid,nodev,noatime,nobarrier,noinit_itable /dev/vdb /drive
mount -t tmpfs -o nosuid,nodev,mode=0755,size=192m run /new/run
mkdir -p /new/run/squib/config /new/run/squib/guest /new/run/squib/state /new/run/lock
cp /squib/guest.json /squib/filter /new/run/squib/config/
cp /squib/guest.pyz /new/run/squib/
mount -o bind,ro /new/run/squib/guest.pyz /new/opt/squib/guest.pyz
chown 1000:1000 /new/run/squib/guest /new/run/squib/state
chmod 0700 /new/run/squib/guest /new/run/squib/state
for place in workspace home/agent tmp; do
    mkdir -p "/drive/$place"
    mount -o bind "/drive/$place" "/new/$place"
done
chown 1000:1000 /new/workspace /new/home/agent
chmod 0700 /new/workspace /new/home/agent
chmod 1777 /new/tmp
umount -l /drive
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,ptmxmode=0666,newinstance,mode=0620 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
ip link set lo up
ip addr add 10.0.0.2/30 dev eth0
ip link set eth0 up
ulimit -c 0
ulimit -n 65536
[ -z "$pids" ] || ulimit -u "$pids"
[ -e "/new$python" ] || [ -L "/new$python" ] || { echo "squib: the image has no $python"; exit 1; }
for place in proc sys dev; do mount -o move "/$place" "/new/$place"; done
exec switch_root /new "$python" -I -S /opt/squib/guest.pyz init \
    --config /run/squib/config/guest.json --filter /run/squib/config/filter
