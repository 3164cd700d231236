//! What is said in AWS IoT's fleet provisioning over MQTT: payloads in JSON, and the same in CBOR.

use super::ClaimRefusal;
use crate::est;
use cbor::{self, Malformed, Reader};
use model::SerialNumber;
use serde_json::{Map, Value};

/// Parameters of one call, and bytes of a name or a value.
const PARAMETERS_MAX: u64 = 16;
const PARAMETER_BYTES_MAX: usize = 256;
/// The parameter that we read; others are the template's affair, and there is none here.
const SERIAL_NUMBER: &str = "SerialNumber";

/// The last part of a topic says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    Json,
    Cbor,
}

/// `provision`: the owner of a certificate says so, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentCall {
    pub ownership_token: String,
    pub serial: SerialNumber,
}

/// `create-from-csr`: the certificate request in DER.
///
/// # Errors
/// [`ClaimRefusal::Payload`].
pub fn certificate_call(form: Form, payload: &[u8]) -> Result<Vec<u8>, ClaimRefusal> {
    const FIELD: &str = "certificateSigningRequest";
    let what = "one certificateSigningRequest, a text";
    let pem = match form {
        Form::Json => match json(payload)?
            .as_object()
            .map(|fields| (fields.len(), fields))
        {
            Some((1, fields)) => text_of(fields, FIELD).map(str::to_owned),
            _ => None,
        },
        Form::Cbor => {
            let read = || -> Result<String, Malformed> {
                let mut reader = Reader::new(payload);
                if reader.map()? != 1 || reader.text()? != FIELD {
                    return Err(Malformed);
                }
                let pem = reader.text()?;
                reader.finish()?;
                Ok(pem.to_owned())
            };
            read().ok()
        }
    };
    let pem = pem.ok_or(ClaimRefusal::Payload { what })?;
    est::request_in_pem(pem.as_bytes()).map_err(|_| ClaimRefusal::Payload {
        what: "certificateSigningRequest is not one PEM block CERTIFICATE REQUEST",
    })
}

/// `provision`.
///
/// # Errors
/// [`ClaimRefusal::Payload`].
pub fn enrollment_call(form: Form, payload: &[u8]) -> Result<EnrollmentCall, ClaimRefusal> {
    let what = "certificateOwnershipToken and parameters, all of them texts";
    let read = match form {
        Form::Json => enrollment_in_json(&json(payload)?),
        Form::Cbor => enrollment_in_cbor(payload).ok(),
    };
    let (token, serial) = read.ok_or(ClaimRefusal::Payload { what })?;
    Ok(EnrollmentCall {
        ownership_token: token,
        serial: SerialNumber::new(&serial.unwrap_or_default()).map_err(|_| {
            ClaimRefusal::Payload {
                what: "parameters hold no SerialNumber",
            }
        })?,
    })
}

fn enrollment_in_json(value: &Value) -> Option<(String, Option<String>)> {
    let fields = value.as_object()?;
    let token = text_of(fields, "certificateOwnershipToken")?;
    let none = Map::new();
    let parameters = match fields.get("parameters") {
        Some(parameters) => parameters.as_object()?,
        None => &none,
    };
    let known = 1 + usize::from(fields.contains_key("parameters"));
    if fields.len() != known || parameters.len() as u64 > PARAMETERS_MAX {
        return None;
    }
    for (name, value) in parameters {
        is_short(name)?;
        is_short(value.as_str()?)?;
    }
    let serial = text_of(parameters, SERIAL_NUMBER).map(str::to_owned);
    Some((token.to_owned(), serial))
}

fn enrollment_in_cbor(payload: &[u8]) -> Result<(String, Option<String>), Malformed> {
    let mut reader = Reader::new(payload);
    let (mut token, mut serial, mut seen) = (None, None, false);
    for _ in 0..reader.map()?.min(3) {
        match reader.text()? {
            "certificateOwnershipToken" if token.is_none() => {
                token = Some(reader.text()?.to_owned());
            }
            "parameters" if !seen => {
                seen = true;
                let count = reader.map()?;
                if count > PARAMETERS_MAX {
                    return Err(Malformed);
                }
                for _ in 0..count {
                    let (name, value) = (reader.text()?, reader.text()?);
                    is_short(name).and(is_short(value)).ok_or(Malformed)?;
                    if name == SERIAL_NUMBER && serial.replace(value.to_owned()).is_some() {
                        return Err(Malformed);
                    }
                }
            }
            _ => return Err(Malformed),
        }
    }
    reader.finish()?;
    Ok((token.ok_or(Malformed)?, serial))
}

fn is_short(text: &str) -> Option<()> {
    (text.len() <= PARAMETER_BYTES_MAX).then_some(())
}

fn json(payload: &[u8]) -> Result<Value, ClaimRefusal> {
    // Its own limit of 128 levels bounds the stack.
    serde_json::from_slice(payload).map_err(|_| ClaimRefusal::Payload {
        what: "it is not JSON",
    })
}

fn text_of<'v>(fields: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    fields.get(name)?.as_str()
}

/// The answer to `create-from-csr`. The certificate is good for nothing until its owner has said so.
#[must_use]
pub fn accepted_certificate(form: Form, id: &str, pem: &str, ownership_token: &str) -> Vec<u8> {
    let fields = [
        ("certificateOwnershipToken", Field::Text(ownership_token)),
        ("certificateId", Field::Text(id)),
        ("certificatePem", Field::Text(pem)),
    ];
    written(form, &fields)
}

/// The answer to `provision`.
#[must_use]
pub fn accepted_enrollment(form: Form, device: &str) -> Vec<u8> {
    let fields = [
        ("deviceConfiguration", Field::Nothing),
        ("thingName", Field::Text(device)),
    ];
    written(form, &fields)
}

/// What is said on `rejected`.
#[must_use]
pub fn rejected(form: Form, status: u16, code: &str, message: &str) -> Vec<u8> {
    let fields = [
        ("statusCode", Field::Number(status)),
        ("errorCode", Field::Text(code)),
        ("errorMessage", Field::Text(message)),
    ];
    written(form, &fields)
}

enum Field<'a> {
    Text(&'a str),
    Number(u16),
    /// An object without fields.
    Nothing,
}

fn written(form: Form, fields: &[(&str, Field<'_>)]) -> Vec<u8> {
    match form {
        Form::Json => {
            let object: Map<String, Value> = (fields.iter())
                .map(|(name, value)| {
                    let value = match value {
                        Field::Text(text) => Value::from(*text),
                        Field::Number(number) => Value::from(*number),
                        Field::Nothing => Value::Object(Map::new()),
                    };
                    ((*name).to_owned(), value)
                })
                .collect();
            Value::Object(object).to_string().into_bytes()
        }
        Form::Cbor => {
            let mut out = Vec::new();
            cbor::head(&mut out, 5, fields.len() as u64);
            for (name, value) in fields {
                cbor::text(&mut out, name);
                match value {
                    Field::Text(text) => cbor::text(&mut out, text),
                    Field::Number(number) => cbor::head(&mut out, 0, u64::from(*number)),
                    Field::Nothing => cbor::head(&mut out, 5, 0),
                }
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "certificateOwnershipToken";

    fn cbor_of(fields: &[(&str, &str)], parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::head(&mut out, 5, fields.len() as u64 + 1);
        for (name, value) in fields {
            cbor::text(&mut out, name);
            cbor::text(&mut out, value);
        }
        cbor::text(&mut out, "parameters");
        cbor::head(&mut out, 5, parameters.len() as u64);
        for (name, value) in parameters {
            cbor::text(&mut out, name);
            cbor::text(&mut out, value);
        }
        out
    }

    #[test]
    fn a_call_is_the_same_in_both_forms() {
        let call = EnrollmentCall {
            ownership_token: "t".to_owned(),
            serial: SerialNumber::new("SN 1").unwrap(),
        };
        let json =
            format!(r#"{{"{TOKEN}":"t","parameters":{{"SerialNumber":"SN 1","Place":"hall"}}}}"#);
        assert_eq!(
            enrollment_call(Form::Json, json.as_bytes()),
            Ok(call.clone())
        );
        let cbor = cbor_of(
            &[(TOKEN, "t")],
            &[("Place", "hall"), ("SerialNumber", "SN 1")],
        );
        assert_eq!(enrollment_call(Form::Cbor, &cbor), Ok(call));
    }

    #[test]
    fn what_is_no_call_is_refused() {
        let serial = r#""parameters":{"SerialNumber":"SN1"}"#;
        for json in [
            String::new(),
            "[]".to_owned(),
            format!("{{{serial}}}"),
            format!(r#"{{"{TOKEN}":1,{serial}}}"#),
            format!(r#"{{"{TOKEN}":"t"}}"#),
            format!(r#"{{"{TOKEN}":"t","parameters":{{}}}}"#),
            format!(r#"{{"{TOKEN}":"t","parameters":{{"SerialNumber":7}}}}"#),
            format!(r#"{{"{TOKEN}":"t","parameters":{{"SerialNumber":" "}}}}"#),
            format!(r#"{{"{TOKEN}":"t","template":"x",{serial}}}"#),
            format!("{{\"{TOKEN}\":\"t\",{serial}}}trailing"),
            "[".repeat(100_000),
        ] {
            let told = enrollment_call(Form::Json, json.as_bytes());
            assert!(
                matches!(told, Err(ClaimRefusal::Payload { .. })),
                "{json:.80}"
            );
        }
        let twice = [("SerialNumber", "SN1"), ("SerialNumber", "SN2")];
        for cbor in [
            cbor_of(&[(TOKEN, "t")], &twice),
            cbor_of(&[(TOKEN, "t"), (TOKEN, "u")], &[("SerialNumber", "SN1")]),
            cbor_of(
                &[(TOKEN, "t"), ("template", "x")],
                &[("SerialNumber", "SN1")],
            ),
            cbor_of(&[], &[("SerialNumber", "SN1")]),
            [
                &cbor_of(&[(TOKEN, "t")], &[("SerialNumber", "SN1")])[..],
                &[0],
            ]
            .concat(),
        ] {
            let told = enrollment_call(Form::Cbor, &cbor);
            assert!(
                matches!(told, Err(ClaimRefusal::Payload { .. })),
                "{cbor:?}"
            );
        }
        for (form, payload) in [(Form::Json, &b"{}"[..]), (Form::Cbor, &b"\xa0"[..])] {
            assert!(certificate_call(form, payload).is_err());
        }
    }
}
