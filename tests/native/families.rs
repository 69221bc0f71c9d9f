//! A tiny random model of each family, on every device, against transformers' recorded logits.

use std::path::Path;

use pollster::block_on;
use siskin_engine::{CacheType, DeviceRequest, OpenOptions, Precision, Session};
use siskin_gpu::Profile;
use siskin_models::{Head, Model};
use siskin_tests::{Tensors, assert_close, family_folder, fixture, most_devices, tolerance};

fn open(path: &Path, device: DeviceRequest) -> Session {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_type: CacheType::F32,
        precision: Precision::F32,
    };
    block_on(Session::open(path, &options, &mut |_| ()))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The CPU, every profile of the first driver, and one of another.
fn requests() -> Vec<(DeviceRequest, Profile)> {
    let gpus = most_devices().into_iter().map(|(index, profile)| {
        let device = DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        };
        (device, profile)
    });
    std::iter::once((DeviceRequest::Cpu, Profile::BASE))
        .chain(gpus)
        .collect()
}

/// Logits of a prompt, and of its last token by itself with the others in the cache.
fn check(path: &Path, device: DeviceRequest, profile: Profile, ids: &[u32], wanted: &[f32]) {
    let mut session = open(path, device);
    let what = format!("{} {device:?}", path.display());
    let logits = block_on(session.logits(ids)).unwrap();
    assert_close(&what, &logits, wanted, tolerance("model", profile));
    let (last, before) = ids.split_last().unwrap();
    session.reset();
    block_on(session.next_logits(before)).unwrap();
    let next = block_on(session.next_logits(&[before, &[*last]].concat())).unwrap();
    let wanted = &wanted[wanted.len() - wanted.len() / ids.len()..];
    assert_close(&what, &next, wanted, tolerance("model", profile));
}

#[test]
fn logits_are_those_of_transformers() {
    let mut families: Vec<_> = std::fs::read_dir(fixture("families"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    families.sort();
    assert!(families.len() >= 29, "only {} families", families.len());
    for family in families {
        let name = family.file_name().unwrap().to_string_lossy();
        let t = Tensors::open(&format!("families/{name}/expected.safetensors"));
        let (ids, wanted) = (t.u32("ids"), t.f32("logits"));
        let dir = family_folder(&name);
        for (device, profile) in requests() {
            check(dir.path(), device, profile, &ids, &wanted);
        }
        // The graph is the same; what differs is how it is read.
        let gguf = family.join("model.gguf");
        if gguf.exists() {
            check(&gguf, DeviceRequest::Cpu, Profile::BASE, &ids, &wanted);
        }
    }
}

#[test]
fn what_cannot_be_trained_is_refused() {
    for (family, why) in [
        ("phi", "bias of its head"),
        ("gpt_neox", "in one tensor"),
        ("phimoe", "sparse mixer"),
        ("gemma3n", "streams"),
    ] {
        let config = fixture(&format!("families/{family}/config.json"));
        let config = std::fs::read_to_string(config).unwrap();
        let model = Model::from_config(serde_json::from_str(&config).unwrap()).unwrap();
        let error = model.graph(Head::Loss).unwrap_err().to_string();
        assert!(error.contains(why), "{family}: {error}");
        assert!(model.graph(Head::Next).is_ok());
    }
}

#[test]
fn the_readme_names_every_family() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/models/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let rows = readme.lines().filter(|l| l.starts_with("| families"));
    let text: String = rows.collect();
    let named: std::collections::BTreeSet<_> = text.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, siskin_models::architectures().collect());
}
