//! A certificate for `localhost`, made at run time and signed by its own key: enough X.509 for a handshake with oneself.
//!
//! DER (X.690) of RFC 5280's `Certificate`, ECDSA on P-256 with SHA-256, valid from 2000 to 2099, so that a device whose
//! clock was never set fails nothing here but what it should.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const GENERALIZED_TIME: u8 = 0x18;
const UTC_TIME: u8 = 0x17;

// Object identifiers, with tag and length.
const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x11];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ECDSA_WITH_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The certificate and its private key (PKCS #8), both DER.
pub fn localhost() -> Result<(Vec<u8>, Vec<u8>), String> {
    let random = SystemRandom::new();
    let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        .map_err(|_| "make a P-256 key".to_owned())?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref(), &random)
        .map_err(|e| format!("read the P-256 key back: {e}"))?;

    let version_3 = tlv(0xa0, &[&tlv(INTEGER, &[&[2]])]);
    let serial = tlv(INTEGER, &[&[1]]);
    let algorithm = tlv(SEQUENCE, &[ECDSA_WITH_SHA256]);
    let attribute = tlv(SEQUENCE, &[COMMON_NAME, &tlv(UTF8_STRING, &[b"balena self-test"])]);
    let name = tlv(SEQUENCE, &[&tlv(SET, &[&attribute])]);
    let validity = tlv(
        SEQUENCE,
        &[
            &tlv(UTC_TIME, &[b"000101000000Z"]),
            &tlv(GENERALIZED_TIME, &[b"20991231235959Z"]),
        ],
    );
    let curve = tlv(SEQUENCE, &[EC_PUBLIC_KEY, PRIME256V1]);
    let public = tlv(
        SEQUENCE,
        &[&curve, &tlv(BIT_STRING, &[&[0], key.public_key().as_ref()])],
    );
    let names = tlv(SEQUENCE, &[&tlv(0x82, &[b"localhost"])]);
    let extension = tlv(SEQUENCE, &[SUBJECT_ALT_NAME, &tlv(OCTET_STRING, &[&names])]);
    let extensions = tlv(0xa3, &[&tlv(SEQUENCE, &[&extension])]);
    let body = tlv(
        SEQUENCE,
        &[
            &version_3,
            &serial,
            &algorithm,
            &name,
            &validity,
            &name,
            &public,
            &extensions,
        ],
    );
    let signature = key
        .sign(&random, &body)
        .map_err(|_| "sign with the P-256 key".to_owned())?;
    let certificate = tlv(
        SEQUENCE,
        &[&body, &algorithm, &tlv(BIT_STRING, &[&[0], signature.as_ref()])],
    );
    Ok((certificate, private.as_ref().to_vec()))
}

/// A tag, the length, and the content.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u16::try_from(content.len())
        .expect("a certificate is far shorter than 64 KiB")
        .to_be_bytes()
    {
        [0, short @ 0..0x80] => out.push(short),
        [0, long] => out.extend([0x81, long]),
        long => out.extend([&[0x82], &long[..]].concat()),
    }
    out.extend(content);
    out
}
