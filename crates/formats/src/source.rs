use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use crate::{Error, Result};

/// Bytes that can be read by range, such as a file or a buffer.
pub trait ByteSource: Send + Sync {
    /// A name for error messages.
    fn name(&self) -> &str;
    /// Length in bytes.
    fn len(&self) -> u64;
    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` with the bytes from `offset`.
    ///
    /// # Errors
    /// If the range reaches beyond the end, or reading fails.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;
}

impl std::fmt::Debug for dyn ByteSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ByteSource({}, {} bytes)", self.name(), self.len())
    }
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// If it is another kind of file, larger, or cannot be read.
pub fn read_regular(path: &Path, max: u64) -> Result<Vec<u8>> {
    let bytes = regular_file(path)?;
    if bytes > max {
        return Err(Error::TooLarge {
            name: path.display().to_string(),
            what: format!("{bytes} bytes"),
        });
    }
    std::fs::read(path).map_err(|error| Error::Io {
        path: path.to_path_buf(),
        error,
    })
}

/// The length of a file, which must be a regular one or a link to one.
pub(crate) fn regular_file(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::Io {
        path: path.to_path_buf(),
        error,
    })?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    Err(Error::NotAFile {
        path: path.to_path_buf(),
        what: if metadata.is_dir() {
            "a folder"
        } else {
            "a device or a pipe"
        },
    })
}

/// A file on disk.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    len: u64,
    file: Mutex<File>,
}

impl FileSource {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be opened, or is not a regular file: opening a pipe would wait for a writer.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |error| Error::Io {
            path: path.to_path_buf(),
            error,
        };
        // Opening a pipe would wait for a writer.
        let len = regular_file(path)?;
        let file = File::open(path).map_err(io)?;
        Ok(Self {
            name: path.display().to_string(),
            len,
            file: Mutex::new(file),
        })
    }
}

impl ByteSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(buf))
            .map_err(|error| Error::Io {
                path: self.name.clone().into(),
                error,
            })
    }
}

impl ByteSource for Vec<u8> {
    fn name(&self) -> &str {
        "a buffer"
    }
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|o| Some(o..o.checked_add(buf.len())?));
        match range.and_then(|r| self.get(r)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Error::BeyondFile {
                name: self.name().into(),
                what: format!("a read of {} bytes", buf.len()),
                offset,
                len: ByteSource::len(self),
            }),
        }
    }
}
