#!/bin/sh
# Runs in mount and PID namespaces of its own: STAGE HOME_BYTES (0: a folder of the stage) TMP_OPTIONS.
set -e
stage=$1 home_bytes=$2 tmp_options=$3
mount --bind "$stage" /mnt
mount --bind "$stage/etc/passwd" /etc/passwd
mount --bind "$stage/etc/group" /etc/group
mount --bind "$stage/sys" /sys
# It is a machine of its own, and another one after each start.
cat /proc/sys/kernel/random/uuid >"$stage/boot_id"
mount --bind "$stage/boot_id" /proc/sys/kernel/random/boot_id
if [ -e /etc/machine-id ]; then mount --bind "$stage/etc/machine-id" /etc/machine-id; fi
mount --bind "$stage/home" /home
if [ "$home_bytes" -gt 0 ]; then
  name=$(ls /home)
  mount -t tmpfs -o "size=$home_bytes" tmpfs /home
  mkdir "/home/$name"
  chown 1000:1000 "/home/$name"
fi
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount -t tmpfs -o "$tmp_options" tmpfs /tmp
exec /usr/sbin/sshd -D -e -f /mnt/sshd_config
