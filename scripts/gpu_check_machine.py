"""What gpu_check.py says of a machine: its GPUs, their driver, and the NVRTC that compiles kernels, asked without the program."""

import ctypes
import glob
import os
import platform
import shutil
import subprocess
from pathlib import Path

# One query for each, since an old driver refuses a whole one for a single unknown name.
SMI_FIELDS = (
    "name,driver_version,memory.total,memory.used,compute_cap,clocks.max.sm,power.limit,temperature.gpu,pstate,"
    "mig.mode.current,ecc.mode.current,persistence_mode"
).split(",")
# The plain names first, as the program's own loader has it.
DRIVER_NAMES = ["libcuda.so", "libcuda.so.1"]
NVRTC_NAMES = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so.11"]
# Names of CUDA's attributes of a device.
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


def smi(field):
    """A field of every GPU by nvidia-smi; None where it cannot say."""
    try:
        query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [line.strip() for line in done.stdout.splitlines()] if done.returncode == 0 else None


def nvidia_smi():
    """The GPUs as nvidia-smi lists them."""
    if not shutil.which("nvidia-smi"):
        return {"gpus": None, "reason": "nvidia-smi is not installed"}
    fields = {field: smi(field) for field in SMI_FIELDS}
    names = fields["name"] or []
    gpus = [{field: values[at] for field, values in fields.items() if values} for at in range(len(names))]
    return {"gpus": gpus, "reason": None if gpus else "nvidia-smi lists no GPU"}


def loaded(name):
    """The path of a library that this process has loaded."""
    stem = name.split(".so")[0]
    maps = Path("/proc/self/maps")
    paths = {line.split()[-1] for line in maps.read_text().splitlines()} if maps.exists() else set()
    return next((path for path in sorted(paths) if Path(path).name.startswith(stem + ".so")), None)


def load(names):
    """The first of these libraries that the loader finds, and where it was."""
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return library, {"asked_for": name, "path": loaded(name)}
    return None, None


def version(library, function):
    """A version as `[13, 2]`, of a function with two numbers (NVRTC), or one number such as 13020 (the driver)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    if function == "nvrtcVersion":
        code = library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return [major.value, minor.value] if code == 0 else None
    code = library.cuDriverGetVersion(ctypes.byref(major))
    return [major.value // 1000, major.value % 1000 // 10] if code == 0 else None


def cuda_devices(driver):
    """The GPUs as CUDA's driver lists them: name, bytes, compute capability."""
    code = driver.cuInit(0)
    if code:
        return None, f"cuInit answers {code}"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    devices = []
    for number in range(count.value):
        device, total, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(128)
        major, minor = ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(device), number)
        driver.cuDeviceGetName(name, 128, device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
        driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device)
        capability = f"{major.value}.{minor.value}"
        devices.append({"name": name.value.decode(errors="replace"), "bytes": total.value, "capability": capability})
    return devices, None


def cuda():
    """CUDA's driver and NVRTC as the loader finds them, and whether one can take what the other makes."""
    driver, found_driver = load(DRIVER_NAMES)
    nvrtc, found_nvrtc = load(NVRTC_NAMES)
    result = {"driver": found_driver, "nvrtc": found_nvrtc, "devices": None, "problem": None}
    if nvrtc:
        found_nvrtc["version"] = version(nvrtc, "nvrtcVersion")
    else:
        result["problem"] = "no libnvrtc is found by the loader: a build with `cuda-nvrtc` cannot compile kernels"
    if not driver:
        result["problem"] = "no libcuda is found by the loader: there is no NVIDIA driver"
        return result
    found_driver["cuda_version"] = version(driver, "cuDriverGetVersion")
    result["devices"], problem = cuda_devices(driver)
    result["problem"] = problem or result["problem"]
    newest, made = found_driver["cuda_version"], (found_nvrtc or {}).get("version")
    if newest and made and made > newest:
        result["problem"] = (
            f"NVRTC {made[0]}.{made[1]} is newer than the driver's CUDA {newest[0]}.{newest[1]}: what it compiles may be"
            " refused (error 222); install an older toolkit, or a newer driver"
        )
    return result


def vulkan_drivers():
    """What describes Vulkan's drivers here."""
    folders = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")
    return sorted(path for folder in folders for path in glob.glob(f"{folder}/*.json"))


def memory_bytes():
    """The machine's main memory and what of it is free."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return {name: int(lines[key].split()[0]) * 1024 for name, key in (("total", "MemTotal"), ("free", "MemAvailable"))}
    except (OSError, KeyError, ValueError):
        return None


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def system():
    """What is no GPU."""
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "threads": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "python": platform.python_version(),
    }
