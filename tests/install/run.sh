#!/usr/bin/env bash
# Installs a built shadowmmu, moves it elsewhere, and builds and runs the
# consumer of this folder against it: once through find_package, once through
# pkg-config. ctest runs it as install/consume.
#
#   run.sh <build folder> [cmake] [C++ compiler]

set -euo pipefail

if (($# < 1)); then
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$1" && pwd)
cmake=${2:-cmake}
cxx=${3:-g++}

work=$build/install-test
rm -rf "$work"
mkdir -p "$work"

echo "== install, then move the prefix"
"$cmake" --install "$build" --prefix "$work/staged" >"$work/install.log"
mv "$work/staged" "$work/prefix"

echo "== consume through find_package"
"$cmake" -S "$here" -B "$work/by-cmake" -G Ninja \
  -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$work/prefix"
"$cmake" --build "$work/by-cmake"
"$work/by-cmake/consumer"

echo "== consume through pkg-config"
pc=$(find "$work/prefix" -name shadowmmu.pc)
export PKG_CONFIG_PATH="${pc%/*}${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
echo "shadowmmu $(pkg-config --modversion shadowmmu)"
read -ra cflags <<<"$(pkg-config --cflags shadowmmu)"
read -ra libs <<<"$(pkg-config --libs shadowmmu)"
"$cxx" -std=c++20 -O2 -Wall -Wextra -Wpedantic -Werror "${cflags[@]}" \
  "$here/consumer.cc" -o "$work/consumer" "${libs[@]}"
"$work/consumer"
echo "== both ways work"
