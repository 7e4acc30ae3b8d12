//! What relative paths are relative to: those in the file to the file's folder, wherever the program was started; those that the
//! environment gives to the working directory.

use std::path::{Path, PathBuf};

use figment::Figment;

use super::extract::environment;

/// Where relative paths begin.
pub(super) struct Places<'a> {
    folder: &'a Path,
    environment: Figment,
}

impl<'a> Places<'a> {
    /// Paths of a file in this folder.
    pub fn of(folder: &'a Path) -> Places<'a> {
        Places { folder, environment: Figment::from(environment()) }
    }

    /// Where a relative path at this key begins.
    pub fn base(&self, keys: &[&str]) -> &'a Path {
        match self.environment.find_value(&keys.join(".")) {
            Ok(_) => Path::new(""),
            Err(_) => self.folder,
        }
    }

    /// The path at this key, from the working directory.
    pub fn path(&self, keys: &[&str], path: &Path) -> PathBuf {
        self.base(keys).join(path)
    }

    /// The address of the store, with the path of its file from the working directory.
    pub fn store(&self, url: &str) -> String {
        let base = self.base(&["store", "url"]);
        let Some(rest) = url.strip_prefix("sqlite:") else { return url.to_owned() };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let file = rest.split_once('?').map_or(rest, |(file, _)| file);
        let is_in_memory = url.contains(":memory:") || url.contains("mode=memory");
        if file.is_empty() || is_in_memory || Path::new(file).is_absolute() || base.as_os_str().is_empty() {
            return url.to_owned();
        }
        // What is written here is decoded again where the store is opened.
        let folder = base.display().to_string().replace('%', "%25").replace('?', "%3F");
        format!("sqlite://{}", Path::new(&folder).join(rest).display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_store_begins_at_the_files_folder() {
        let store = |url: &str| Places::of(Path::new("/etc/a 50%?/b")).store(url);
        assert_eq!(store("sqlite://counterpart.db"), "sqlite:///etc/a 50%25%3F/b/counterpart.db");
        assert_eq!(store("sqlite:state/my.db?mode=rwc"), "sqlite:///etc/a 50%25%3F/b/state/my.db?mode=rwc");
        for whole in [
            "sqlite:///var/lib/counterpart.db",
            "sqlite:/var/lib/counterpart.db",
            "sqlite::memory:",
            "sqlite://file?mode=memory",
            "sqlite://",
            "postgres://ann@host/counterpart",
        ] {
            assert_eq!(store(whole), whole);
        }
        assert_eq!(Places::of(Path::new("")).store("sqlite://counterpart.db"), "sqlite://counterpart.db");
    }
}
