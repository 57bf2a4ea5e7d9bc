//! Compiled kernels that are kept on disk, so that only the first start of a program on a driver compiles them.

#[cfg(feature = "kernel-cache")]
use super::host;
use crate::paths;
#[cfg(feature = "kernel-cache")]
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};
use std::ffi::OsString;
use std::path::PathBuf;
#[cfg(feature = "kernel-cache")]
use std::sync::Once;

/// Tells cubecl to keep kernels, and where, before it opens a device. A `cubecl.toml` or variable that says where, rules.
#[cfg(feature = "kernel-cache")]
pub fn keep() {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        if let Some(folder) = folder(&|name| std::env::var_os(name), &host::compilers()) {
            config.compilation.cache = true;
            // Its default is a folder of the project around the one where the program was started.
            if matches!(config.environment.path, CacheConfig::Target) {
                config.environment.path = CacheConfig::Directory(folder);
            }
        }
        // Who was asked before keeps what it has.
        let _ = CubeClRuntimeConfig::try_set(config);
    });
}

/// Where kernels of these `compilers` are kept: what one driver takes another may refuse, and cubecl's own keys hold the
/// kernel, the program and the architecture. `None` where there is no home, and where the variable that names a folder names
/// none: who opens the folder of prepared data says so.
fn folder(variable: &dyn Fn(&str) -> Option<OsString>, compilers: &[String]) -> Option<PathBuf> {
    let cache = paths::cache_with(variable).ok()??;
    let key = blake3::hash(compilers.join("\n").as_bytes()).to_hex();
    Some(cache.join("kernels").join(&key[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], compilers: &[&str]) -> Option<PathBuf> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        folder(&find, &compilers.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn each_driver_and_compiler_has_a_folder_of_the_user() {
        let home = ("HOME", "/h");
        let one = of(&[home], &["driver 550", "nvrtc 12.4"]).unwrap();
        assert!(one.starts_with("/h/.cache/gemma-tune/kernels"), "{}", one.display());
        assert_eq!(one, of(&[home], &["driver 550", "nvrtc 12.4"]).unwrap());
        assert_ne!(one, of(&[home], &["driver 560", "nvrtc 12.4"]).unwrap());
        assert_ne!(one, of(&[home], &["driver 550", "nvrtc 13.0"]).unwrap());
        assert!(of(&[home, ("XDG_CACHE_HOME", "/x")], &[]).unwrap().starts_with("/x/gemma-tune/kernels"));
        assert!(of(&[("LOCALAPPDATA", "/l"), ("HOME", "")], &[]).unwrap().starts_with("/l/gemma-tune/kernels"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "")], &[]), None);
        let named = |folder| of(&[home, ("XDG_CACHE_HOME", "/x"), ("GEMMA_TUNE_CACHE", folder)], &[]);
        assert!(named("/g").unwrap().starts_with("/g/kernels") && named("~/c").unwrap().starts_with("/h/c/kernels"));
        assert_eq!(named("$NOWHERE"), None);
    }
}
