# shellcheck shell=bash
# What the scripts here share. Sourced, never run.
#
#   say TEXT...             a line that stands out
#   die TEXT...             says why, and ends the script
#   duration SECONDS        "3 min 5 s"
#   need_packages NAME...   installs the Debian packages that are missing
#   at_fixed_addresses COMMAND...   runs it with no address randomisation

# shellcheck disable=SC2034  # For the scripts that source this.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n==> %s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

duration() {
  if (($1 < 60)); then
    printf '%d s' "$1"
  else
    printf '%d min %d s' $(($1 / 60)) $(($1 % 60))
  fi
}

# ThreadSanitizer needs fixed parts of the address space, and dies at start on
# kernels that randomise by more bits than it was made for.
at_fixed_addresses() {
  if setarch "$(uname -m)" --addr-no-randomize true 2>/dev/null; then
    setarch "$(uname -m)" --addr-no-randomize "$@"
  else
    "$@"
  fi
}

need_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "Not a Debian system; these packages, or what your system calls them," \
      "must be there: $*"
    return
  fi

  local package missing=()
  for package in "$@"; do
    if [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then
    say "Packages: all $# are installed"
    return
  fi

  say "Packages: installing ${missing[*]}"
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "please run as root: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  "${as_root[@]}" update
  "${as_root[@]}" install -y --no-install-recommends "${missing[@]}"
}
