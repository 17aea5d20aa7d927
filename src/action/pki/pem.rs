//! PEM blocks (RFC 7468): found in any text, written in one form.

use x509_parser::pem::Pem;

use super::PkiError;

/// Certificates of a PEM text, as DER, in their order. Text around blocks, CRLF and a missing last line
/// break are fine, as istiod's own reader has it.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, PkiError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(PkiError::Empty);
    }
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(text) {
        let block = block.map_err(|_| PkiError::NoPem)?;
        match block.label.as_str() {
            "CERTIFICATE" => found.push(block.contents),
            label if label.ends_with("PRIVATE KEY") => return Err(PkiError::KeyAmongCerts),
            label if found.is_empty() => return Err(PkiError::WrongBlock(label.to_owned())),
            _ => {}
        }
    }
    if found.is_empty() {
        Err(PkiError::NoPem)
    } else {
        Ok(found)
    }
}

/// True where a private key stands in a text, also where other blocks of it cannot be read.
pub fn holds_key(text: &[u8]) -> bool {
    let mark = b"PRIVATE KEY-----";
    text.windows(mark.len()).any(|w| w == mark)
}

/// True where the first certificate of `cert` is among those of a text.
pub fn holds_cert(text: &[u8], cert: &[u8]) -> bool {
    match (certificates(text), certificates(cert)) {
        (Ok(text), Ok(cert)) => cert.first().is_some_and(|c| text.contains(c)),
        _ => false,
    }
}

/// One certificate as PEM: 64 columns, LF, ended by a line break.
pub(super) fn certificate_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

/// Certificates as one PEM text.
pub(super) fn certificates_pem<'a>(ders: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    ders.into_iter()
        .map(certificate_pem)
        .collect::<String>()
        .into_bytes()
}
