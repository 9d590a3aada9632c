//! `impl json::Serialize`.

use crate::attributes::Attributes;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DataEnum, DeriveInput, Error, Fields, FieldsNamed, Result};

pub fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = Attributes::of(&input.attrs)?;
    let name = &input.ident;
    let body = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => object(fields, &attributes, |ident| quote!(&self.#ident))?,
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => quote!(::json::Serialize::write(&self.0, writer);),
            other => {
                return Err(Error::new_spanned(
                    other,
                    "json writes structs of named fields, or of one",
                ));
            }
        },
        Data::Enum(data) => variants(data, &attributes)?,
        Data::Union(_) => return Err(Error::new_spanned(name, "json writes no unions")),
    };
    let (before, after, wanted) = input.generics.split_for_impl();
    Ok(quote! {
        impl #before ::json::Serialize for #name #after #wanted {
            fn write(&self, writer: &mut ::json::Writer) {
                #body
            }
        }
    })
}

fn object(
    fields: &FieldsNamed,
    container: &Attributes,
    at: impl Fn(&syn::Ident) -> TokenStream,
) -> Result<TokenStream> {
    let mut parts = Vec::new();
    for field in &fields.named {
        let own = Attributes::of(&field.attrs)?;
        let Some(ident) = field.ident.as_ref().filter(|_| !own.skip) else {
            continue;
        };
        let (name, place) = (own.field(ident, container.rename_all.as_deref())?, at(ident));
        let part = quote! {
            writer.key(#name);
            ::json::Serialize::write(#place, writer);
        };
        parts.push(match &own.skip_if {
            Some(skip) => quote!(if !#skip(#place) { #part }),
            None => part,
        });
    }
    Ok(quote! {
        writer.open(b'{');
        #(#parts)*
        writer.close(b'}');
    })
}

fn variants(data: &DataEnum, container: &Attributes) -> Result<TokenStream> {
    let mut arms = Vec::new();
    for variant in &data.variants {
        let own = Attributes::of(&variant.attrs)?;
        let ident = &variant.ident;
        let name = own.variant(ident, container.rename_all.as_deref())?;
        arms.push(match &variant.fields {
            Fields::Unit => quote!(Self::#ident => writer.text(#name)),
            Fields::Named(fields) => {
                let idents: Vec<_> = fields.named.iter().filter_map(|field| field.ident.as_ref()).collect();
                let places: Vec<_> = idents.iter().map(|ident| format_ident!("field_{}", ident)).collect();
                let body = object(fields, &own, |ident| {
                    let place = format_ident!("field_{}", ident);
                    quote!(#place)
                })?;
                quote!(Self::#ident { #(#idents: #places),* } => {
                    writer.open(b'{');
                    writer.key(#name);
                    #body
                    writer.close(b'}');
                })
            }
            other => {
                return Err(Error::new_spanned(
                    other,
                    "json writes variants without, or of named fields",
                ));
            }
        });
    }
    Ok(quote!(match self { #(#arms,)* }))
}
