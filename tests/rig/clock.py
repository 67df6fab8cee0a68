"""Another day: the environment in which a process takes the wall clock for so many days later. Other clocks are left alone."""

import os
import pathlib
import shutil
import subprocess

from . import Missing

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    const char *shift = getenv("RIG_CLOCK_SECONDS");
    if (result == 0 && id == CLOCK_REALTIME && shift) now->tv_sec += atol(shift);
    return result;
}
"""


def later(directory, days):
    """The environment. The library is made in `directory`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise Missing("a C compiler")
    library = pathlib.Path(directory) / "clock.so"
    source = library.with_suffix(".c")
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
    return {**os.environ, "LD_PRELOAD": str(library), "RIG_CLOCK_SECONDS": str(days * 86_400)}
