# Starts systemd as the first process of namespaces of its own, over a root that is this machine's and forgets what is written
# to it: `machine.sh DIRECTORY`. Below `DIRECTORY/root` is what is to be put there before.
set -eu
mount --make-rprivate /
mount -t tmpfs machine "$1"
cd "$1"
mkdir upper work root
mount -t overlay machine -o lowerdir=/,upperdir=upper,workdir=work root
cd root
# Only what is asked for starts, and nothing is set that is not this machine's own.
rm -rf usr/lib/systemd/system/*.wants etc/systemd/system/*.wants
mount -t proc proc proc
mount -o bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs machine run
mount -t tmpfs -o mode=755 machine dev
for node in null zero full random urandom tty; do
    touch dev/$node && mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs machine sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
printf '[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service\n' >etc/systemd/system/machine.target
mkdir old
pivot_root . old
umount -l old
ip link set lo up 2>/dev/null || true
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=no
