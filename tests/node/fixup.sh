#!/bin/sh
# Run by mmdebstrap on an unpacked root: does what the maintainer scripts would have done.
# $1 the root; $2 a folder that receives busybox and its libraries, the stuff of test images.
set -e
root=$1
out=$2
cd "$root"
# From trixie on, packages hold their files below /usr; these links come with a package that is not here.
for dir in bin sbin lib lib64; do
    [ ! -d "usr/$dir" ] || [ -e "$dir" ] || ln -s "usr/$dir" "$dir"
done
mkdir -p etc/docker run tmp var/lib/docker var/log var/tmp root proc sys dev usr/local/bin
chmod 1777 tmp var/tmp
[ -L var/run ] || { rm -rf var/run; ln -s /run var/run; }
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' >etc/passwd
printf '%s\n' 'root:*:20000:0:99999:7:::' >etc/shadow
chmod 600 etc/shadow
printf '%s\n' 'root:x:0:' 'tty:x:5:' 'docker:x:101:' 'nogroup:x:65534:' >etc/group
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    [ -e "usr/sbin/$name" ] || ln -s xtables-nft-multi "usr/sbin/$name"
done
[ -e bin/sh ] || ln -s dash bin/sh
for name in $(chroot . /bin/busybox --list); do
    [ -e "bin/$name" ] || [ -e "sbin/$name" ] || [ -e "usr/bin/$name" ] || [ -e "usr/sbin/$name" ] ||
        ln -s busybox "bin/$name"
done
# guest-shutdown runs /sbin/shutdown, which is not /usr/sbin everywhere.
for dir in usr/sbin sbin; do
    ln -sf /usr/local/sbin/lab-shutdown $dir/shutdown
done
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info var/cache/apt var/lib/apt/lists
mkdir -p "$out/bin"
cp -L bin/busybox "$out/bin/busybox"
chroot . /bin/busybox --list >"$out/applets"
# The loader's --list names the libraries as "name => path (address)" and itself as "path (address)".
loader=$(echo lib64/ld-linux-x86-64.so.* lib/ld-linux-aarch64.so.* lib/ld-linux-*.so.* | tr ' ' '\n' | while read -r f; do
    [ -e "$f" ] && echo "$f" && break
done)
chroot . "/$loader" --list /bin/busybox | grep -o '/[^ ]*' | sort -u | while read -r file; do
    mkdir -p "$out$(dirname "$file")"
    cp -L ".$file" "$out$file"
done
mkdir -p "$out/$(dirname "$loader")"
cp -L "$loader" "$out/$loader"
