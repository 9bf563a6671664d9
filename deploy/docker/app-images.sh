#!/usr/bin/env bash
# Build images of services that run in the catalogue's templates, for places and tests that no registry of images serves:
#   indaco/hello:1     a web server that greets (hello.py)
#   indaco/jupyter:1   JupyterLab from PyPI; takes JUPYTER_TOKEN, listens at 8888, keeps notebooks in /home/jovyan/work
# Each is the machine image (vm-image.sh) and one layer; no image is pulled.
#
#   app-images.sh [--force]    makes what is missing; all, if forced
#
# INDACO_VM_IMAGE (indaco/vm:12)  INDACO_JUPYTERLAB (4.6.6: the version)
# Needs an engine that answers `docker info`, the machine image, and a Python. Takes about a minute.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../local/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../local/lib.sh"

BASE=${INDACO_VM_IMAGE:-indaco/vm:12}
JUPYTERLAB=${INDACO_JUPYTERLAB:-4.6.6}
PYTHON=3.11 # the one of the machine image
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
EDITION=1

# layer IMAGE FOLDER CHANGE...: the machine image with the folder's files, and what `docker commit` is to change
layer() {
  local image=$1 folder=$2 made former change options=()
  shift 2
  for change; do options+=(--change "$change"); done
  former=$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null || true)
  made=$(docker create "$BASE")
  MADE+=("$made")
  tar -C "$folder" --numeric-owner -c . | docker cp --archive - "$made:/"
  docker commit "${options[@]}" --change "LABEL dev.indaco.app-image=\"$EDITION\"" "$made" "$image" >/dev/null
  [ -z "$former" ] || docker image rm "$former" >/dev/null 2>&1 || true # stays while a container uses it
  say "built $image, $(($(docker image inspect -f '{{.Size}}' "$image") / 1000000)) MB"
}

hello() {
  install -D -m 755 "$HERE/hello.py" "$WORK/hello/usr/local/bin/hello"
  layer indaco/hello:1 "$WORK/hello" 'ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/hello"]' 'EXPOSE 80'
}

jupyter() {
  local root=$WORK/jupyter library=$WORK/jupyter/opt/jupyter
  state_folder docker
  from_pypi "$INDACO_LOCAL/docker/pip" pip
  say "pip install jupyterlab==$JUPYTERLAB"
  "$INDACO_LOCAL/docker/pip/bin/python" -m pip install --quiet --disable-pip-version-check --target "$library" --python-version "$PYTHON" \
    --implementation cp --only-binary=:all: "jupyterlab==$JUPYTERLAB" >"$WORK/pip.log" 2>&1 ||
    { tail -n 5 "$WORK/pip.log" >&2; die "pip failed"; }
  rm -rf "${library:?}/bin" # they name this machine's Python
  install -d "$root/home/jovyan/work"
  chown -R 1000:1000 "$root/home/jovyan"
  layer indaco/jupyter:1 "$root" 'EXPOSE 8888' 'USER 1000:1000' 'WORKDIR /home/jovyan/work' \
    "ENV HOME=/home/jovyan PYTHONPATH=/opt/jupyter JUPYTER_PATH=/opt/jupyter/share/jupyter JUPYTER_CONFIG_PATH=/opt/jupyter/etc/jupyter" \
    'ENTRYPOINT ["/usr/bin/tini", "--", "/usr/bin/python3", "-m", "jupyterlab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--LabApp.app_dir=/opt/jupyter/share/jupyter/lab"]'
}

build() {
  docker image inspect "$BASE" >/dev/null 2>&1 || die "no image $BASE (vm-image.sh builds it)"
  WORK=$(mktemp -d /var/tmp/indaco-app-images.XXXXXX)
  trap finish EXIT
  local app
  for app; do "$app"; done
}

MADE=()
finish() {
  [ "${#MADE[@]}" = 0 ] || docker rm "${MADE[@]}" >/dev/null
  rm -rf --one-file-system "$WORK"
}

# missing: the images that are not there as this script makes them
missing() {
  local app
  for app in hello jupyter; do
    [ "$(docker image inspect -f '{{index .Config.Labels "dev.indaco.app-image"}}' "indaco/$app:1" 2>/dev/null)" = "$EDITION" ] || echo "$app"
  done
}

case ${1:-} in
  '')
    mapfile -t apps < <(missing)
    [ "${#apps[@]}" = 0 ] || build "${apps[@]}"
    ;;
  --force) build hello jupyter ;;
  *) usage ;;
esac
