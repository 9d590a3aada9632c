//! `impl json::Deserialize`.
//!
//! A reader of a struct is a table of names and a closure that fills the field of an index, so that the loop over an
//! object's members exists once in the binary and not once for each type.

use crate::attributes::Attributes;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DataEnum, DeriveInput, Error, Fields, FieldsNamed, Result, Type};

pub fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = Attributes::of(&input.attrs)?;
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "json reads no generic types"));
    }
    let name = &input.ident;
    let body = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if attributes.default => filled(name, fields, &attributes)?,
            Fields::Named(fields) => {
                let (before, made) = made(&name.to_string(), quote!(Self), fields, &attributes, &quote!(true))?;
                quote!(#before ::core::result::Result::Ok(#made))
            }
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                quote!(::core::result::Result::Ok(Self(::json::Deserialize::read(reader)?)))
            }
            other => {
                return Err(Error::new_spanned(
                    other,
                    "json reads structs of named fields, or of one",
                ));
            }
        },
        Data::Enum(data) => variants(data, &attributes)?,
        Data::Union(_) => return Err(Error::new_spanned(name, "json reads no unions")),
    };
    Ok(quote! {
        impl ::json::Deserialize for #name {
            fn read(reader: &mut ::json::Reader<'_>) -> ::json::Result<Self> {
                #body
            }
        }
    })
}

/// A struct that has a value before anything is read: its fields are filled in place.
fn filled(name: &syn::Ident, fields: &FieldsNamed, container: &Attributes) -> Result<TokenStream> {
    let (mut names, mut arms) = (Names::default(), Vec::new());
    for field in &fields.named {
        let own = Attributes::of(&field.attrs)?;
        let Some(ident) = field.ident.as_ref().filter(|_| !own.skip) else {
            continue;
        };
        let pattern = names.add(&own, own.field(ident, container.rename_all.as_deref())?);
        let fill = filler(&own);
        arms.push(quote!(#pattern => #fill(&mut this.#ident, reader)));
    }
    let (shown, fields) = (name.to_string(), names.table());
    Ok(quote! {
        let mut this = <Self as ::core::default::Default>::default();
        reader.structure(#shown, &[#(#fields),*], &mut |index, reader| match index {
            #(#arms,)*
            _ => ::core::result::Result::Ok(()),
        })?;
        ::core::result::Result::Ok(this)
    })
}

/// A struct, or a variant with fields, of which some must be there: what is before it, and the expression.
fn made(
    shown: &str,
    path: TokenStream,
    fields: &FieldsNamed,
    container: &Attributes,
    content: &TokenStream,
) -> Result<(TokenStream, TokenStream)> {
    let (mut names, mut places, mut arms, mut inits) = (Names::default(), Vec::new(), Vec::new(), Vec::new());
    for field in &fields.named {
        let own = Attributes::of(&field.attrs)?;
        let Some(ident) = field.ident.as_ref() else { continue };
        if own.skip {
            inits.push(quote!(#ident: ::core::default::Default::default()));
            continue;
        }
        let (place, kind) = (format_ident!("field_{}", ident), &field.ty);
        let json = own.field(ident, container.rename_all.as_deref())?;
        let pattern = names.add(&own, json.clone());
        let fill = filler(&own);
        arms.push(quote!(#pattern => #fill(&mut #place, reader)));
        if own.default || is_option(kind) {
            places.push(quote!(let mut #place: #kind = ::core::default::Default::default();));
            inits.push(quote!(#ident: #place));
        } else {
            places.push(quote!(let mut #place: ::core::option::Option<#kind> = ::core::option::Option::None;));
            inits.push(quote!(#ident: match #place {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => return ::core::result::Result::Err(::json::missing(#json)),
            }));
        }
    }
    let fields = names.table();
    let before = quote! {
        #(#places)*
        if #content {
            reader.structure(#shown, &[#(#fields),*], &mut |index, reader| match index {
                #(#arms,)*
                _ => ::core::result::Result::Ok(()),
            })?;
        }
    };
    Ok((before, quote!(#path { #(#inits),* })))
}

/// An enum: a text, or an object of one member.
fn variants(data: &DataEnum, container: &Attributes) -> Result<TokenStream> {
    let (mut names, mut arms) = (Vec::new(), Vec::new());
    for (index, variant) in data.variants.iter().enumerate() {
        let own = Attributes::of(&variant.attrs)?;
        let ident = &variant.ident;
        names.push(own.variant(ident, container.rename_all.as_deref())?);
        let value = match &variant.fields {
            Fields::Unit => quote!({ reader.unit(content)?; Self::#ident }),
            Fields::Named(fields) => {
                let shown = ident.to_string();
                let (before, made) = made(&shown, quote!(Self::#ident), fields, &own, &quote!(content))?;
                quote!({ #before #made })
            }
            other => {
                return Err(Error::new_spanned(
                    other,
                    "json reads variants without, or of named fields",
                ));
            }
        };
        arms.push(quote!(#index => #value));
    }
    Ok(quote! {
        let (index, content) = reader.variant(&[#(#names),*])?;
        let value = match index {
            #(#arms,)*
            _ => return ::core::result::Result::Err(::json::missing("variant")),
        };
        reader.variant_end(content)?;
        ::core::result::Result::Ok(value)
    })
}

fn filler(own: &Attributes) -> TokenStream {
    match &own.fill {
        Some(function) => quote!(#function),
        None => quote!(::json::Deserialize::fill),
    }
}

fn is_option(kind: &Type) -> bool {
    match kind {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "Option"),
        _ => false,
    }
}

/// The names of a struct's fields, and behind them their further names.
#[derive(Default)]
struct Names(Vec<(usize, String)>, usize);

impl Names {
    /// The pattern of the indexes that name the field.
    fn add(&mut self, own: &Attributes, name: String) -> TokenStream {
        let index = self.1;
        self.1 += 1;
        self.0.push((index, name));
        self.0.extend(own.aliases.iter().map(|alias| (index, alias.clone())));
        quote!(#index)
    }

    /// `(name, index)` of each.
    fn table(&self) -> Vec<TokenStream> {
        let small = |index: usize| u8::try_from(index).unwrap_or(u8::MAX);
        let entry = |(index, name): &(usize, String)| {
            let index = small(*index);
            quote!((#name, #index))
        };
        self.0.iter().map(entry).collect()
    }
}
