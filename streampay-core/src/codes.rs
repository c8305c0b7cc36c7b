//! Enums whose variants have a number on the wire and a text for people.

/// Declares one. Its variant `Other` stands for every number that this version does not know.
macro_rules! coded {
    (
        $(#[doc = $about:literal])* $type:ident;
        $($(#[doc = $doc:literal])* $name:ident = $code:literal, $text:literal;)*
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum $type { $($(#[doc = $doc])* $name,)* }

        impl $type {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// From the number on the wire; one that this version does not know is `Other`.
            #[must_use]
            pub const fn from_code(code: u16) -> Self {
                match code { $($code => Self::$name,)* _ => Self::Other }
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

pub(crate) use coded;
