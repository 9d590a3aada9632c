//! Who we are to a registry, as clients send it in `X-Registry-Auth`.

use std::fmt;

use json::Deserialize;
use oci::base64;

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Auth {
    #[default]
    Anonymous,
    Basic {
        user: String,
        password: String,
    },
    /// An OAuth2 refresh token: traded for access tokens, never sent to the registry itself.
    IdentityToken(String),
    /// A bearer token to be sent as it is.
    RegistryToken(String),
}

/// Says why a header is no credentials.
#[derive(Debug, thiserror::Error)]
pub enum AuthHeaderError {
    #[error("invalid X-Registry-Auth header: not base64")]
    Base64,
    #[error("invalid X-Registry-Auth header: {0}")]
    Json(#[from] json::Error),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire {
    #[serde(alias = "Username")]
    username: Option<String>,
    #[serde(alias = "Password")]
    password: Option<String>,
    /// base64 of `user:password`, as `config.json` holds it.
    auth: Option<String>,
    #[serde(alias = "identityToken", alias = "IdentityToken")]
    identitytoken: Option<String>,
    #[serde(alias = "registryToken", alias = "RegistryToken")]
    registrytoken: Option<String>,
}

impl Auth {
    /// Reads the value of an `X-Registry-Auth` header: base64 (either alphabet, padded or not) of JSON.
    /// An empty value, and JSON without credentials, is anonymous.
    pub fn from_header(value: &str) -> Result<Auth, AuthHeaderError> {
        let bytes = base64::decode_any(value.trim()).ok_or(AuthHeaderError::Base64)?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Auth::Anonymous);
        }
        Ok(Auth::from_wire(
            json::from_slice::<Option<Wire>>(&bytes)?.unwrap_or_default(),
        ))
    }

    /// Reads the credentials of each registry in an `X-Registry-Config` header (base64 of a JSON object).
    pub fn from_config_header(value: &str) -> Result<Vec<(String, Auth)>, AuthHeaderError> {
        let bytes = base64::decode_any(value.trim()).ok_or(AuthHeaderError::Base64)?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        let map: Option<std::collections::BTreeMap<String, Wire>> = json::from_slice(&bytes)?;
        Ok(map
            .unwrap_or_default()
            .into_iter()
            .map(|(host, wire)| (host, Auth::from_wire(wire)))
            .collect())
    }

    fn from_wire(wire: Wire) -> Auth {
        let given = |field: Option<String>| field.filter(|text| !text.is_empty());
        if let Some(token) = given(wire.registrytoken) {
            return Auth::RegistryToken(token);
        }
        if let Some(token) = given(wire.identitytoken) {
            return Auth::IdentityToken(token);
        }
        let pair = given(wire.auth)
            .and_then(|auth| base64::decode_any(&auth))
            .and_then(|b| String::from_utf8(b).ok());
        let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
        // A user alone is none: what goes with it stands in `auth`, if anywhere.
        match (given(wire.username), given(wire.password), pair) {
            (Some(user), Some(password), _) => Auth::Basic { user, password },
            (_, _, Some((user, password))) if !user.is_empty() => Auth::Basic {
                user: user.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            },
            (Some(user), None, _) => Auth::Basic {
                user,
                password: String::new(),
            },
            _ => Auth::Anonymous,
        }
    }

    /// The value of an `Authorization` header with basic credentials.
    pub(crate) fn basic(&self) -> Option<String> {
        match self {
            Auth::Basic { user, password } => Some(format!(
                "Basic {}",
                base64::encode(format!("{user}:{password}").as_bytes())
            )),
            _ => None,
        }
    }
}

/// Shows the kind and the user; never a secret.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::Anonymous => f.write_str("Anonymous"),
            Auth::Basic { user, .. } => write!(f, "Basic({user})"),
            Auth::IdentityToken(_) => f.write_str("IdentityToken"),
            Auth::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Auth {
        Auth::from_header(&base64::encode(json.as_bytes())).unwrap()
    }

    #[test]
    fn header_forms() {
        let basic = Auth::Basic {
            user: "u".into(),
            password: "p".into(),
        };
        assert_eq!(
            read(r#"{"username":"u","password":"p","serveraddress":"x","email":null}"#),
            basic
        );
        assert_eq!(read(r#"{"Username":"u","Password":"p"}"#), basic);
        assert_eq!(read(r#"{"auth":"dTpw"}"#), basic);
        assert_eq!(read(r#"{"auth":"dTpw","username":"other"}"#), basic);
        assert_eq!(
            read(r#"{"username":"u","identitytoken":"t"}"#),
            Auth::IdentityToken("t".into())
        );
        assert_eq!(
            read(r#"{"registrytoken":"t","username":"u"}"#),
            Auth::RegistryToken("t".into())
        );
        for nothing in ["{}", "null", "", r#"{"username":""}"#] {
            assert_eq!(read(nothing), Auth::Anonymous);
        }
        assert!(Auth::from_header("!").is_err());
        assert!(Auth::from_header(&base64::encode(b"{")).is_err());
        // Docker's own client pads with the URL alphabet; others do not pad.
        assert_eq!(Auth::from_header("eyJhdXRoIjoiZFRwdyJ9").unwrap(), basic);
        assert!(!format!("{basic:?}").contains('p'));
    }
}
