//! `keygate keys create --count N --out FILE`: many keys in one transaction, into a file that is there whole or not at all.

use std::io::{BufWriter, Write};
use std::path::Path;

use http::Method;
use tempfile::NamedTempFile;

use crate::admin::api::{BulkLine, NewKeyRequest, OneKey};
use crate::cli::Global;
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::keys::key::KEY_LEN;
use crate::secret::Secret;

/// Makes `request.count` keys and writes them to `file`. The file's place and its room on the disk are made sure of before any key
/// is made; should writing fail all the same, the keys are revoked, since nobody has them.
pub(crate) async fn create(request: &NewKeyRequest, file: &Path, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let count = request.count.unwrap_or(1);
    let target = reserve(file, count)?;
    let backend = Backend::open(global, output).await?;
    let answer = backend.call_raw(Method::POST, "/api/api-keys/bulk", request).await?;
    let lines = read_lines(&answer)?;
    if let Err(failure) = write(target, file, &lines) {
        return Err(take_back(&backend, &lines, failure).await);
    }
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "count": lines.len(), "file": file }));
    }
    output.sentence(&format!("{} keys written to {}", lines.len(), file.display()))
}

/// A file beside the wanted one, readable by its owner only, with room for all keys.
pub(crate) fn reserve(file: &Path, count: u32) -> Result<NamedTempFile, Failure> {
    if file.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("{} is there already; name a new file", file.display())));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let failed = |error: &dyn std::error::Error| Failure::failed(format!("cannot write {}: {error}", file.display()));
    let target = NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    let bytes = u64::from(count) * u64::try_from(KEY_LEN + 1).unwrap_or(0);
    match rustix::fs::fallocate(&target, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(target),
        Err(error) => Err(failed(&error)),
    }
}

fn read_lines(answer: &[u8]) -> Result<Vec<BulkLine>, Failure> {
    serde_json::Deserializer::from_slice(answer)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::failed(format!("the gateway's answer makes no sense: line {}; look at keygate keys list", error.line())))
}

fn write(target: NamedTempFile, file: &Path, lines: &[BulkLine]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", file.display()));
    let mut writer = BufWriter::new(target.as_file());
    for line in lines {
        let key = line.api_key.as_ref().map(Secret::expose).ok_or_else(|| Failure::failed("the gateway's answer lacks a key"))?;
        writeln!(writer, "{key}").map_err(failed)?;
    }
    writer.flush().map_err(failed)?;
    drop(writer);
    target.as_file().sync_all().map_err(failed)?;
    target.persist_noclobber(file).map_err(|error| failed(error.error))?;
    Ok(())
}

async fn take_back(backend: &Backend, lines: &[BulkLine], failure: Failure) -> Failure {
    let mut left = 0_usize;
    for line in lines {
        let revoked: Result<OneKey, _> = backend.call(Method::DELETE, &format!("/api/api-keys/{}", line.id), &()).await;
        left += usize::from(revoked.is_err());
    }
    let rest = match left {
        0 => "the keys were revoked again".to_owned(),
        left => format!("{left} of the keys could not be revoked again: see keygate keys list"),
    };
    Failure::new(failure.exit, format!("{failure}; {rest}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn line(number: u32) -> BulkLine {
        BulkLine { id: number.to_string(), name: format!("n-{number}"), api_key: Some(format!("kg_{number}").into()) }
    }

    #[test]
    fn keys_are_written_in_order_for_the_owner_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("keys");
        let target = reserve(&file, 3).expect("room");
        assert!(!file.exists(), "nothing is there before all is written");
        write(target, &file, &[line(1), line(2), line(3)]).expect("written");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "kg_1\nkg_2\nkg_3\n");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("keys");
        let target = reserve(&file, 1).expect("room");
        std::fs::write(&file, "mine").expect("somebody else was quicker");
        assert!(write(target, &file, &[line(1)]).is_err());
        assert!(reserve(&file, 1).is_err());
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "nothing half-written stays");
    }

    #[test]
    fn an_answer_is_one_object_a_line() {
        let lines = read_lines(b"{\"id\":\"a\",\"name\":\"n-1\",\"apiKey\":\"k1\"}\n{\"id\":\"b\",\"name\":\"n-2\",\"apiKey\":\"k2\"}\n");
        assert_eq!(lines.expect("two").len(), 2);
        assert!(read_lines(b"{\"id\":\"a\",\"na").is_err());
    }
}
