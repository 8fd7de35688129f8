//! Reads an OCI archive: a tar file with an index, and blobs named by their digests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tar::Archive;

use crate::skip::skipped;

/// One image.
pub(crate) struct Image {
    /// The image's configuration: user, entry point, labels.
    pub(crate) config: Value,
    /// The files of all layers, by path.
    pub(crate) files: BTreeMap<String, Entry>,
    /// Bytes of all layers as they travel.
    pub(crate) packed: usize,
    layers: Vec<Vec<u8>>,
}

/// A file or folder.
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) modified: u64,
    /// None for a folder.
    pub(crate) content: Option<Vec<u8>>,
}

impl Image {
    /// The image of that name; none if nobody said where the images are.
    pub(crate) fn read(name: &str) -> Option<Image> {
        let Some(folder) = std::env::var_os("IMAGE_FOLDER") else {
            skipped("no IMAGE_FOLDER: `make image-test` builds the images and sets it");
            return None;
        };
        let path = PathBuf::from(folder).join(format!("{name}.oci.tar"));
        Some(Image::open(&path))
    }

    fn open(path: &Path) -> Image {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut blobs = BTreeMap::new();
        for entry in Archive::new(file).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = plain(&entry.path().unwrap());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            blobs.insert(name, content);
        }
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = json(&blobs["index.json"]);
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 1, "{index}");
        let manifest = json(blob(&blobs, &manifests[0]));
        let config = json(blob(&blobs, &manifest["config"]));
        let mut image = Image { config, files: BTreeMap::new(), packed: 0, layers: Vec::new() };
        for layer in manifest["layers"].as_array().unwrap() {
            let kind = layer["mediaType"].as_str().unwrap();
            assert_eq!(kind, "application/vnd.oci.image.layer.v1.tar+gzip");
            let packed = blob(&blobs, layer);
            let mut unpacked = Vec::new();
            GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
            image.packed += packed.len();
            image.add(&unpacked);
            image.layers.push(unpacked);
        }
        image
    }

    fn add(&mut self, layer: &[u8]) {
        for entry in Archive::new(layer).entries().unwrap() {
            let mut entry = entry.unwrap();
            let kind = entry.header().entry_type();
            assert!(kind.is_file() || kind.is_dir(), "{kind:?}");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            let read = Entry {
                mode: header.mode().unwrap() & 0o7777,
                owner: (header.uid().unwrap(), header.gid().unwrap()),
                modified: header.mtime().unwrap(),
                content: kind.is_file().then_some(content),
            };
            self.files.insert(plain(&entry.path().unwrap()), read);
        }
    }

    /// Bytes of all files.
    pub(crate) fn unpacked(&self) -> usize {
        self.files.values().filter_map(|entry| entry.content.as_ref()).map(Vec::len).sum()
    }

    /// Makes a root folder of it, with owners and modes as the image says; needs root.
    pub(crate) fn unpack(&self, root: &Path) {
        for layer in &self.layers {
            let mut archive = Archive::new(layer.as_slice());
            archive.set_preserve_ownerships(true);
            archive.set_preserve_permissions(true);
            archive.unpack(root).unwrap();
        }
    }
}

/// A blob, held against its digest and size.
fn blob<'a>(blobs: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a Vec<u8> {
    let named = descriptor["digest"].as_str().unwrap();
    let content = &blobs[&format!("blobs/{}", named.replace(':', "/"))];
    let found: String =
        digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(named, format!("sha256:{found}"));
    assert_eq!(descriptor["size"], content.len());
    content
}

/// Without `./` before it and a slash after it; the root itself is `/`.
fn plain(path: &Path) -> String {
    let text = path.to_str().unwrap();
    let text = text.strip_prefix("./").unwrap_or(text).trim_matches('/');
    if text.is_empty() || text == "." { "/".to_owned() } else { text.to_owned() }
}
