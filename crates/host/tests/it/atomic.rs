//! Atomic replacement under every fault.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokensink_host::atomic::{
    self, ReplaceError, Replaced, leftovers, overwrite_in_place, read_stable, replace,
};
use tokensink_host::{FileFacts, FileHandle, FileStamp, Files, OpenMode};
use tokensink_testkit::{Errno, Faults, MemFiles, SeededRandom, TestHost};
use tokensink_types::UnixMillis;

const FILE: &str = "/state/store.json";

fn disk() -> MemFiles {
    let files = MemFiles::default();
    files.put(FILE, "old content", 0o600);
    files
}

fn put(files: &dyn Files, text: &str) -> Result<Replaced, ReplaceError> {
    replace(
        files,
        &SeededRandom::default(),
        Path::new(FILE),
        text.as_bytes(),
        0o600,
    )
}

fn is_old_or_new(files: &MemFiles) -> bool {
    ["old content", "new"].contains(&&*files.text(FILE))
}

#[test]
fn it_replaces_and_tells_what_it_wrote() {
    for mode in [0o600, 0o640, 0o644] {
        let files = disk();
        files.set_mode(Path::new(FILE), mode).unwrap();
        let replaced = put(&files, "new").unwrap();
        assert_eq!(files.text(FILE), "new");
        assert_eq!(replaced.path, Path::new(FILE));
        assert_eq!(Some(replaced.stamp), files.stat(Path::new(FILE)).unwrap());
        assert_eq!(replaced.stamp.mode, 0o600, "an open mode is tightened");
        assert_eq!(files.list(Path::new("/state")).unwrap().len(), 1);
        files.lose_power();
        assert_eq!(files.text(FILE), "new", "what was reported is durable");
    }
}

#[test]
fn a_missing_file_is_created_and_a_missing_directory_is_an_error() {
    let files = MemFiles::default();
    files.mkdir("/state");
    put(&files, "new").unwrap();
    assert_eq!(
        (files.text(FILE), files.mode(FILE)),
        ("new".to_owned(), Some(0o600))
    );
    let error = put(&MemFiles::default(), "new").unwrap_err();
    assert!(error.to_string().contains(FILE), "{error}");
}

#[test]
fn every_failing_call_leaves_old_or_new_and_no_litter() {
    for n in 1.. {
        let (files, faults) = (disk(), Faults::fail_at(n, Errno::IO).torn());
        let result = put(&*faults.files(std::sync::Arc::new(files.clone())), "new");
        if !faults.fired() {
            result.unwrap();
            assert!(n > 8, "{:?}", faults.trace());
            break;
        }
        let error = result.unwrap_err();
        let last = faults.trace()[n - 1].clone();
        assert!(is_old_or_new(&files), "{last}");
        assert_eq!(files.list(Path::new("/state")).unwrap().len(), 1, "{last}");
        assert!(error.to_string().contains(FILE) && !error.is_refused(), "{error}");
        files.lose_power();
        assert!(is_old_or_new(&files), "{last}");
    }
}

#[test]
fn every_crash_leaves_old_or_new() {
    type Plan = fn(usize) -> Faults;
    let plans: [Plan; 3] = [Faults::crash_before, Faults::crash_after, |n| {
        Faults::crash_before(n).torn()
    }];
    for (plan, loses_power) in plans.iter().flat_map(|plan| [(plan, false), (plan, true)]) {
        for n in 1.. {
            let (files, faults) = (disk(), plan(n));
            let result = put(&*faults.files(std::sync::Arc::new(files.clone())), "new");
            assert_eq!(result.is_err(), faults.fired());
            if loses_power {
                files.lose_power();
            }
            assert!(is_old_or_new(&files), "{} {loses_power}", faults.last());
            for leftover in leftovers(&files, Path::new(FILE)).unwrap() {
                files.remove(&leftover).unwrap();
            }
            assert_eq!(
                files.list(Path::new("/state")).unwrap().len(),
                1,
                "all litter is found"
            );
            if !faults.fired() {
                break;
            }
        }
    }
}

#[test]
fn refused_renames_are_told_from_failures() {
    let cases = [
        (Errno::BUSY, true),
        (Errno::PERM, true),
        (Errno::ACCESS, true),
        (Errno::XDEV, true),
        (Errno::EXIST, true),
        (Errno::ROFS, true),
        (Errno::NOSPC, false),
        (Errno::IO, false),
    ];
    for (errno, refused) in cases {
        let files = disk();
        files.refuse_renames(Some(errno));
        let error = put(&files, "new").unwrap_err();
        assert_eq!(error.is_refused(), refused, "{errno}");
        assert_eq!(files.text(FILE), "old content");
        assert_eq!(files.list(Path::new("/state")).unwrap().len(), 1, "no litter");
        if refused {
            let replaced = overwrite_in_place(&files, Path::new(FILE), b"new", 0o600).unwrap();
            assert_eq!(
                (files.text(FILE), replaced.path),
                ("new".to_owned(), PathBuf::from(FILE))
            );
        }
    }
}

#[test]
fn a_directory_that_is_read_only_refuses_and_the_file_can_be_overwritten() {
    let files = disk();
    files.set_mode(Path::new("/state"), 0o500).unwrap();
    assert!(put(&files, "new").unwrap_err().is_refused());
    overwrite_in_place(&files, Path::new(FILE), b"new", 0o600).unwrap();
    assert_eq!(files.text(FILE), "new");
    files.remove(Path::new(FILE)).unwrap_err();
    let missing = replace(
        &files,
        &SeededRandom::default(),
        Path::new("/state/none"),
        b"",
        0o600,
    );
    assert!(
        !missing.unwrap_err().is_refused(),
        "what is missing cannot be overwritten"
    );
}

#[test]
fn another_users_file_is_not_taken_from_them() {
    let files = disk();
    files.chown(FILE, 33);
    let error = put(&files, "new").unwrap_err();
    assert!(
        error.is_refused() && error.to_string().contains("another user"),
        "{error}"
    );
    assert_eq!(files.list(Path::new("/state")).unwrap().len(), 1, "no litter");
}

#[test]
fn a_full_disk_loses_nothing() {
    let files = disk();
    files.set_free_space(Some(2));
    let error = put(&files, "new").unwrap_err();
    assert_eq!(error.io().kind(), io::ErrorKind::StorageFull);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
    assert_eq!(files.text(FILE), "old content");
    assert_eq!(files.list(Path::new("/state")).unwrap().len(), 1, "no litter");
}

#[test]
fn links_are_followed_to_the_real_file() {
    let cases = [
        ("/dotfiles/a", "/dotfiles/a"),
        ("../dotfiles/a", "/dotfiles/a"),
        ("other", "/dotfiles/a"),
    ];
    for (target, real) in cases {
        let files = MemFiles::default();
        files.put("/dotfiles/a", "old content", 0o600);
        files.symlink(target, FILE);
        files.symlink("../dotfiles/a", "/state/other");
        let replaced = put(&files, "new").unwrap();
        assert_eq!(
            files.canonical(&replaced.path).unwrap(),
            Path::new(real),
            "{target}"
        );
        assert_eq!((files.text(real), files.text(FILE)), ("new".into(), "new".into()));
        assert!(
            files.link_target(Path::new(FILE)).unwrap().is_some(),
            "still a link"
        );
    }
    let files = MemFiles::default();
    files.mkdir("/dotfiles");
    files.symlink("/dotfiles/new", FILE);
    put(&files, "new").unwrap();
    assert_eq!(
        files.text("/dotfiles/new"),
        "new",
        "a dangling link leads to a new file"
    );
}

#[test]
fn a_circle_of_links_is_named() {
    let files = MemFiles::default();
    files.symlink("other", FILE);
    files.symlink("store.json", "/state/other");
    for result in [
        put(&files, "new"),
        overwrite_in_place(&files, Path::new(FILE), b"new", 0o600),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("circle"), "{error}");
    }
}

#[test]
fn overwriting_cuts_and_tightens() {
    let files = disk();
    files.set_mode(Path::new(FILE), 0o644).unwrap();
    let replaced = overwrite_in_place(&files, Path::new(FILE), b"new", 0o600).unwrap();
    assert_eq!((files.text(FILE), replaced.stamp.mode), ("new".to_owned(), 0o600));
    files.chown(FILE, 33);
    files.set_fault(FILE, None);
    let error = overwrite_in_place(&files, Path::new("/state/none"), b"x", 0o600).unwrap_err();
    assert!(error.to_string().contains("/state/none"), "{error}");
}

#[test]
fn the_read_back_notices_a_second_writer() {
    let test = TestHost::new();
    test.files.put(FILE, "old content", 0o600);
    let meddler = Meddler::new(&test.files, 1, b"theirs".to_vec());
    let error = put(&meddler, "new").unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
}

#[test]
fn directories_are_created_with_their_mode_and_durably() {
    let files = MemFiles::default();
    files.mkdir("/home");
    files.set_mode(Path::new("/home"), 0o755).unwrap();
    atomic::ensure_dir(&files, Path::new("/home/.openclaw/tokensink/locks"), 0o700).unwrap();
    let mode = |path: &str| files.mode(path);
    assert_eq!(mode("/home"), Some(0o755), "what is there keeps its mode");
    files.lose_power();
    for path in [
        "/home/.openclaw",
        "/home/.openclaw/tokensink",
        "/home/.openclaw/tokensink/locks",
    ] {
        assert_eq!(mode(path), Some(0o700), "{path}");
    }
    files.put("/home/file", "", 0o600);
    let error = atomic::ensure_dir(&files, Path::new("/home/file/below"), 0o700).unwrap_err();
    assert!(error.to_string().contains("/home/file"), "{error}");
}

#[test]
fn a_stable_read_has_the_stamp_of_its_content() {
    let files = disk();
    let path = Path::new(FILE);
    assert_eq!(read_stable(&files, Path::new("/state/none")).unwrap(), None);
    let (bytes, stamp) = read_stable(&files, path).unwrap().unwrap();
    assert_eq!(
        (bytes, Some(stamp)),
        (b"old content".to_vec(), files.stat(path).unwrap())
    );
    for changes in [1, 5, 100] {
        let files = disk();
        let meddler = Meddler::new(&files, changes, b"theirs".to_vec());
        let result = read_stable(&meddler, path);
        if changes < 16 {
            let (bytes, stamp) = result.unwrap().unwrap();
            assert_eq!(
                (bytes, Some(stamp)),
                (b"theirs".to_vec(), files.stat(path).unwrap())
            );
        } else {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        }
    }
}

/// Another program that writes the file after each of the first reads.
#[derive(Debug)]
struct Meddler {
    files: MemFiles,
    left: Mutex<usize>,
    bytes: Vec<u8>,
}

impl Meddler {
    fn new(files: &MemFiles, times: usize, bytes: Vec<u8>) -> Self {
        Self {
            files: files.clone(),
            left: Mutex::new(times),
            bytes,
        }
    }
}

impl Files for Meddler {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let read = self.files.read(path)?;
        let mut left = self.left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            self.files.put(path, &self.bytes, 0o600);
        }
        Ok(read)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        self.files.stat(path)
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.files.canonical(path)
    }
    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.files.link_target(path)
    }
    fn inspect(&self, path: &Path) -> io::Result<Option<FileFacts>> {
        self.files.inspect(path)
    }
    fn open_itself(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        self.files.open_itself(path)
    }
    fn user(&self) -> u32 {
        self.files.user()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        self.files.list(dir)
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.files.create_dir(path, mode)
    }
    fn create_dir_new(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.files.create_dir_new(path, mode)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.files.remove_dir(path)
    }
    fn set_modified(&self, path: &Path, at: UnixMillis) -> io::Result<()> {
        self.files.set_modified(path, at)
    }
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FileHandle>> {
        self.files.create_new(path, mode)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        self.files.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.hard_link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.files.set_mode(path, mode)
    }
}
