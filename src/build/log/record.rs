//! What the log's records hold of a file and of a task, and how that is written. It knows nothing of where
//! they stand.

use serde::{Deserialize, Serialize, Serializer};
use smallvec::SmallVec;

use crate::{action::pki::Digest, build::recipe::Recipe, host::Identity};

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The file that this was read from.
    #[serde(with = "identity")]
    pub identity: Identity,
    /// SHA-256 of its bytes.
    #[serde(with = "hex")]
    pub digest: Digest,
    /// What it holds.
    pub facts: Facts,
}

/// What a file holds, as far as freshness asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Facts {
    /// A private key.
    Key {
        /// SHA-256 of its public half.
        #[serde(with = "hex")]
        public: Digest,
    },
    /// A certificate.
    Cert {
        /// SHA-256 of the public key it carries.
        #[serde(with = "hex")]
        public: Digest,
        /// End of its validity, seconds since 1970.
        not_after: i64,
    },
    /// Any other bytes.
    Plain,
}

/// Digests of what decided about an output; as a rule no more than two.
pub type Inputs = SmallVec<[Digest; 2]>;

/// What a task last made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// False for a file that was found and taken over.
    pub made: bool,
    /// What the output was; `None` for tasks whose outputs are told by mtime.
    #[serde(with = "hex_option", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Digest>,
    /// What decided about it: a key's public half, an issuer's certificate.
    #[serde(with = "hex_list", default, skip_serializing_if = "Inputs::is_empty")]
    pub inputs: Inputs,
    /// The part of the plan that it read.
    pub recipe: Recipe,
    /// The filesystem's time when it started, nanoseconds since 1970.
    #[serde(default)]
    pub started: i64,
}

/// A digest in lower-case hexadecimal: a log holds tens of thousands, so none is a cell of the heap.
struct Hex([u8; 2 * size_of::<Digest>()]);

impl Hex {
    fn of(digest: &Digest) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 2 * size_of::<Digest>()];
        for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(text)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.text())
    }
}

/// Lower-case hexadecimal of a digest.
pub fn hex_text(digest: &Digest) -> String {
    Hex::of(digest).text().to_owned()
}

fn parse_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() {
        return None;
    }
    let digit = |half: u8| Some(char::from(half).to_digit(16)? as u8);
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(digest)
}

mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::{Digest, Hex, parse_hex};

    pub fn serialize<S: Serializer>(digest: &Digest, s: S) -> Result<S::Ok, S::Error> {
        Hex::of(digest).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
        parse_hex(<&str>::deserialize(d)?).ok_or_else(|| D::Error::custom("not a digest"))
    }
}

mod hex_option {
    use serde::{Deserializer, Serializer};

    use super::Digest;

    pub fn serialize<S: Serializer>(digest: &Option<Digest>, s: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => super::hex::serialize(digest, s),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Digest>, D::Error> {
        super::hex::deserialize(d).map(Some)
    }
}

mod hex_list {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Hex, Inputs, parse_hex};

    pub fn serialize<S: Serializer>(digests: &Inputs, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(digests.iter().map(Hex::of))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Inputs, D::Error> {
        let texts = Vec::<&str>::deserialize(d)?;
        let digests = texts
            .iter()
            .map(|t| parse_hex(t).ok_or_else(|| D::Error::custom("not a digest")));
        digests.collect()
    }
}

mod identity {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Identity;

    pub fn serialize<S: Serializer>(i: &Identity, s: S) -> Result<S::Ok, S::Error> {
        (i.size, i.mtime, i.ctime, i.inode, i.mode).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Identity, D::Error> {
        let (size, mtime, ctime, inode, mode) = Deserialize::deserialize(d)?;
        Ok(Identity {
            size,
            mtime,
            ctime,
            inode,
            mode,
        })
    }
}
