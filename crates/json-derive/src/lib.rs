//! `#[derive(Deserialize, Serialize)]` for crate `json`, with serde's attributes as far as they are used here.
//!
//! Of a container: `default`, `rename_all`. Of a field: `default`, `rename`, `alias`, `skip`, `skip_serializing_if`, and
//! `deserialize_with`, a function that fills the field: `fn(&mut T, &mut json::Reader) -> json::Result<()>`. Enums are
//! tagged from outside, structs of one unnamed field are that field. Anything else does not compile.

#![forbid(unsafe_code)]

mod attributes;
mod read;
mod write;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, parse_macro_input};

#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    read::derive(&input).unwrap_or_else(Error::into_compile_error).into()
}

#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    write::derive(&input).unwrap_or_else(Error::into_compile_error).into()
}
