#!/usr/bin/env bash
# Runs a command in a virtual machine whose kernel has the drivers of show-control hardware that the
# kernel here may lack: ALSA's sequencer, and both ends of a serial line on USB.
#
#   hwvm.sh --prepare           fetches the kernel and makes what boots it; says what is missing
#   hwvm.sh COMMAND [ARG...]    runs COMMAND there, and ends as it ends
#
# The kernel is the distribution's own (linux-image-amd64), fetched by apt and unpacked, not
# installed. The guest's root is this machine's, read-only over virtio-9p, below a tmpfs that takes
# what is written: each program that is here runs there as it is, and nothing that it writes stays.
# It has a loopback of its own and no other network. COMMAND runs as root in the current folder, with
# PATH and HOME of here.
#
# While the guest works, its clock counts instructions: on a slow or busy host it works slower, but
# nothing in it is late. While it waits, its time is that of here.
#
#   HWVM_CACHE      where the kernel is kept (peers/hwvm beside this file)
#   HWVM_ENV        further variables that COMMAND needs, by name
#   HWVM_MODULES    modules to load, each with its options: "snd-seq g_serial:n_ports=2,use_acm=1"
#   HWVM_TIMEOUT    seconds after which the guest is given up (480)
#
# Ends with 124 if the guest was given up, and with 125 if there is none, with the reason.
# Who ends this script, however rudely, ends the guest. Needs qemu-system-x86, busybox-static, cpio
# and kmod, and apt for the first time.
set -u

here=$(cd "$(dirname "$0")" && pwd)
cache=${HWVM_CACHE:-$here/peers/hwvm}
timeout=${HWVM_TIMEOUT:-480}

die() {
    printf 'hwvm: %s\n' "$*" >&2
    exit 125
}

# The name of the kernel's package, such as linux-image-6.1.0-1-amd64.
kernel_package() {
    apt-cache depends linux-image-amd64 2> /dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

fetch_kernel() {
    local package
    package=$(kernel_package)
    [ -n "$package" ] || return 1
    rm -rf "$cache/deb" "$cache/kernel"
    mkdir -p "$cache/deb"
    printf 'hwvm: fetching %s\n' "$package" >&2
    (cd "$cache/deb" && apt-get download -qq "$package" 2> /dev/null) || return 1
    dpkg-deb -x "$cache"/deb/linux-image-*.deb "$cache/kernel" || return 1
    rm -rf "$cache/deb"
}

# Fetches and unpacks the kernel.
make_kernel() {
    local version
    if ! fetch_kernel; then
        # Lists that are missing, or so old that what they name is gone.
        apt-get -qq update > /dev/null 2>&1
        fetch_kernel || die "apt gives no linux-image-amd64"
    fi
    version=$(ls "$cache/kernel/lib/modules")
    depmod -b "$cache/kernel" "$version" 2> /dev/null || die "the kernel's modules have no order"
    printf '%s\n' "$version" > "$cache/version"
}

# Makes the first root: busybox, and the modules that the real one needs.
make_first_root() {
    local root=$cache/first name top path
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,sys,modules,lower,upper,new}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for name in sh mount insmod mkdir switch_root; do ln -s busybox "$root/bin/$name"; done
    for top in virtio_pci virtio_console virtio_rng 9p 9pnet_virtio overlay; do
        modprobe -d "$cache/kernel" -S "$version" --show-depends "$top" 2> /dev/null
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r path; do
        cp "$path" "$root/modules/"
        printf '%s\n' "${path##*/}" >> "$root/modules/order"
    done
    cat > "$root/init" << 'END'
#!/bin/sh
export PATH=/bin
mount -t devtmpfs d /dev
mount -t proc p /proc
mount -t sysfs s /sys
while read -r module; do insmod "/modules/$module"; done < /modules/order
nine=trans=virtio,version=9p2000.L,msize=524288
if ! mount -t 9p -o "$nine,cache=loose,ro" root /lower; then
    echo "hwvm: no root over virtio-9p"
    echo o > /proc/sysrq-trigger
fi
mount -t tmpfs -o size=75% t /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work o /new
mount -t devtmpfs d /new/dev
mount -t proc p /new/proc
mount -t sysfs s /new/sys
mount -t tmpfs t /new/run
mkdir -p /new/dev/pts /new/dev/shm /new/run/hwvm /new/run/lock
mount -t devpts -o gid=5,mode=620,ptmxmode=666 p /new/dev/pts
mount -t tmpfs t /new/dev/shm
mount -t 9p -o "$nine,cache=none" job /new/run/hwvm
exec switch_root /new /bin/bash /run/hwvm/second
END
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet) > "$cache/first.cpio.new" &&
        mv "$cache/first.cpio.new" "$cache/first.cpio" || die "the first root cannot be packed"
    rm -rf "$root"
}

# What runs once the root is there: modules, then the command; prints the script.
second() {
    local module name options variable
    printf 'exec < /dev/null > /dev/hvc0 2>&1\n'
    printf 'stty -F /dev/hvc0 raw -echo\n'
    printf 'export PATH=%q HOME=%q HWVM=1\n' "$PATH:/usr/sbin:/sbin" "$HOME"
    printf 'ip link set lo up\n'
    # Modules that the kernel itself asks for are found, too.
    printf 'mkdir -p /lib/modules; ln -sfn %q /lib/modules/%q\n' \
        "$cache/kernel/lib/modules/$version" "$version"
    for module in ${HWVM_MODULES:-}; do
        name=${module%%:*} options=
        [ "$name" = "$module" ] || options=$(printf '%s' "${module#*:}" | tr , ' ')
        printf 'modprobe %q %s\n' "$name" "$options"
    done
    for variable in ${HWVM_ENV:-}; do
        [ -z "${!variable+set}" ] || printf 'export %s=%q\n' "$variable" "${!variable}"
    done
    printf 'cd %q\n' "$PWD"
    printf '('
    printf ' %q' "$@"
    printf ' )\n'
    printf 'echo $? > /run/hwvm/status; sync; echo o > /proc/sysrq-trigger; sleep 60\n'
}

[ $# -ge 1 ] || die "what shall run? see the head of $0"
for program in qemu-system-x86_64 busybox cpio depmod modprobe dpkg-deb setpriv; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" > /dev/null || die "$program is not installed"
done
PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$cache" || die "$cache cannot be made"
exec 9> "$cache/lock"
flock 9
[ -e "$cache/version" ] || make_kernel
version=$(cat "$cache/version")
kernel=$cache/kernel/boot/vmlinuz-$version
[ -e "$kernel" ] || die "the kernel is gone: remove $cache, and try again"
if [ ! -e "$cache/first.cpio" ] || [ "$0" -nt "$cache/first.cpio" ]; then make_first_root; fi
# What a killed script could not remove.
for old in "$cache"/job.*; do [ -e "/proc/${old##*.}" ] || rm -rf "$old"; done
flock -u 9
exec 9>&-
if [ "$1" = --prepare ]; then
    printf 'hwvm: kernel %s is there\n' "$version" >&2
    exit 0
fi

job=$cache/job.$$
mkdir "$job" || die "$job cannot be made"
trap 'rm -rf "$job"' EXIT
second "$@" > "$job/second"

# A /dev/kvm that the processor does not back does not boot this kernel.
if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
    machine=(-machine q35,accel=kvm -cpu host -smp 2)
else
    machine=(-machine q35,accel=tcg -cpu max -icount shift=1,sleep=on)
fi
tied=(setpriv --pdeathsig KILL)
"${tied[@]}" timeout --kill-after 5 "$timeout" \
    "${tied[@]}" qemu-system-x86_64 "${machine[@]}" -m 1024 \
    -no-user-config -nodefaults -display none -no-reboot -pidfile "$job/pid" \
    -kernel "$kernel" -initrd "$cache/first.cpio" \
    -append "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on" \
    -serial "file:$job/log" -device virtio-rng-pci \
    -device virtio-serial-pci -chardev stdio,id=out,signal=off -device virtconsole,chardev=out \
    -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=root,mount_tag=root \
    -fsdev "local,id=job,path=$job,security_model=none" \
    -device virtio-9p-pci,fsdev=job,mount_tag=job < /dev/null
ended=$?
[ -s "$job/status" ] && exit "$(cat "$job/status")"
tail -n 15 "$job/log" >&2
case $ended in
    124 | 137) printf 'hwvm: the guest was given up after %s s\n' "$timeout" >&2 && exit 124 ;;
    *) die "the guest ended without a result; qemu said $ended" ;;
esac
