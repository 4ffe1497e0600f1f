# What the scripts of this folder share: a podman of their own, whose images and containers are all in .cache/, and a base
# image that is made of Debian packages and of the Rust toolchain of this machine. Sourced, never run.
# shellcheck shell=bash

# shellcheck source=tests/tools/prepare.sh
source tests/tools/prepare.sh

place=$cache/container
image=localhost/surgetank:try
base=localhost/rust-base:try

# podman, told to leave everything else on this machine alone.
pod() {
  CONTAINERS_CONF=$place/containers.conf podman --root "$place/storage" --runroot "$place/run" --storage-driver "${STORAGE_DRIVER:-overlay}" "$@"
}

container_tools() {
  local tool
  [[ $(id -u) -eq 0 ]] || fail "Containers are made as root here: run this with sudo."
  for tool in podman runc catatonit debootstrap iptables; do
    command -v "$tool" >/dev/null || {
      apt_install podman runc catatonit netavark aardvark-dns debootstrap iptables
      break
    }
  done
  mkdir -p "$place"
  # Limits that a machine may not grant, and a runtime that is happy with any version of cgroups.
  printf '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n[containers]\ndefault_ulimits=["nofile=20000:20000","nproc=1000:1000"]\n' >"$place/containers.conf"
  [[ -f /etc/containers/policy.json ]] || fail "podman has no /etc/containers/policy.json: install its package whole."
}

# An image with Debian, a C compiler, this machine's Rust, and the sources of all dependencies: a build in it needs no
# network. Made once; remove .cache/container to make it anew.
base_image() {
  local root=$place/base sysroot stamp
  stamp=$(rustc --version && sha256sum Cargo.lock)
  [[ -f $place/base.stamp && $(<"$place/base.stamp") == "$stamp" ]] && pod image exists "$base" && return
  if [[ ! -f $place/debian.tar ]]; then
    printf 'making a Debian of packages (a minute or two, once)\n'
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates,curl,gcc,libc6-dev bookworm "$root" >"$place/debootstrap.log" ||
      fail "debootstrap failed, see $place/debootstrap.log"
    tar -C "$root" --one-file-system -c . >"$place/debian.tar"
  fi
  rm -rf "$root"
  mkdir -p "$root/usr/local/rust" "$root/usr/local/cargo"
  tar -C "$root" -xf "$place/debian.tar"
  sysroot=$(rustc --print sysroot)
  cp -a "$sysroot/bin" "$sysroot/lib" "$root/usr/local/rust/"
  rm -rf "$root/usr/local/rust/lib/rustlib/src"
  cargo vendor --quiet --locked --versioned-dirs "$root/vendor" >/dev/null
  printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "/vendor"\n[net]\noffline = true\n' >"$root/usr/local/cargo/config.toml"
  printf 'importing %s\n' "$(du -sh "$root" | cut -f1)"
  tar -C "$root" -c . | pod import --quiet \
    --change 'ENV PATH=/usr/local/rust/bin:/usr/local/bin:/usr/bin:/bin' --change 'ENV CARGO_HOME=/usr/local/cargo' - "$base" >/dev/null
  rm -rf "$root"
  printf '%s' "$stamp" >"$place/base.stamp"
}

# The image of surgetank as the Dockerfile makes it, on that base. PROFILE=release builds what is shipped. It is built anew
# when anything that goes into it has changed.
surgetank_image() {
  local stamp
  stamp=$(printf '%s\n' "${PROFILE:-ci}" && find Cargo.toml Cargo.lock Dockerfile src config -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  [[ -f $place/image.stamp && $(<"$place/image.stamp") == "$stamp" ]] && pod image exists "$image" && return
  printf 'building the image (minutes)\n'
  # The formats of podman's own know no HEALTHCHECK and no SHELL.
  pod build --quiet --format docker --build-arg RUST_IMAGE="$base" --build-arg PROFILE="${PROFILE:-ci}" \
    --pull=never --network none --ulimit nofile=20000:20000 --tag "$image" . >/dev/null
  printf '%s' "$stamp" >"$place/image.stamp"
}
