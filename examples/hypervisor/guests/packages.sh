# shellcheck shell=bash
# Debian's packages for guests. Sourced, never run.
#
#   unpack NAME   downloads the package by apt, and unpacks it into packages/NAME
#                 of the working directory; nothing is installed. What is there
#                 already is kept. Ends the script with 77 where packages cannot
#                 be downloaded.

readonly unavailable=77

unpack() {
  [[ ! -d packages/$1 ]] || return 0
  rm -rf download
  mkdir -p packages download
  if ! (cd download && apt-get -qq -o APT::Sandbox::User= download "$1"); then
    printf '%s: cannot download the package %s\n' "${0##*/}" "$1" >&2
    exit $unavailable
  fi
  rm -rf packages/unpacking
  dpkg-deb -x download/*.deb packages/unpacking
  rm -r download
  mv packages/unpacking "packages/$1"
}
