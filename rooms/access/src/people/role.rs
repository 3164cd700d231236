//! Roles of people, and sets of them.

/// What somebody is trusted with. The name is what policies, rows and the log say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees devices, policy, incidents and the log.
    Viewer,
    /// Enrolls, contains, revokes one by one, restores.
    Operator,
    /// Proposes what devices shall run.
    ReleaseManager,
    /// Approves it; never the one who proposed.
    ReleaseApprover,
    /// CAs, and whose certificates are believed.
    PkiAdmin,
    /// What reaches what.
    PolicyAdmin,
    /// Reads and exports all, changes nothing.
    Auditor,
    /// People and tokens, and nothing else.
    TenantAdmin,
    /// Given for an hour by two persons. Never stored with a person.
    BreakGlass,
}

impl Role {
    pub const ALL: [Self; 9] = [
        Self::Viewer,
        Self::Operator,
        Self::ReleaseManager,
        Self::ReleaseApprover,
        Self::PkiAdmin,
        Self::PolicyAdmin,
        Self::Auditor,
        Self::TenantAdmin,
        Self::BreakGlass,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::ReleaseManager => "release-manager",
            Self::ReleaseApprover => "release-approver",
            Self::PkiAdmin => "pki-admin",
            Self::PolicyAdmin => "policy-admin",
            Self::Auditor => "auditor",
            Self::TenantAdmin => "tenant-admin",
            Self::BreakGlass => "break-glass",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whoever has it can change something.
    #[must_use]
    pub const fn is_strong(self) -> bool {
        !matches!(self, Self::Viewer | Self::Auditor)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Roles(u16);

impl Roles {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub fn of(roles: impl IntoIterator<Item = Role>) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }

    /// Names with a space between them, as rows and the log have them. What is no role of ours is
    /// none at all.
    ///
    /// # Errors
    /// The word that names no role.
    pub fn from_text(text: &str) -> Result<Self, &str> {
        (text.split(' ').filter(|word| !word.is_empty())).try_fold(Self::NONE, |roles, word| {
            let role = Role::from_name(word).ok_or(word)?;
            Ok(roles.with(role))
        })
    }

    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that `other` has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn is_strong(self) -> bool {
        self.iter().any(Role::is_strong)
    }

    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL
            .into_iter()
            .filter(move |role| self.contains(*role))
    }
}

/// As [`Roles::from_text`] reads it.
impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, role) in self.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}", role.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_roles_read_back_as_written_and_what_is_no_role_is_refused() {
        for bits in 0..1 << Role::ALL.len() {
            let roles = Roles(bits);
            assert_eq!(Roles::from_text(&roles.to_string()), Ok(roles));
        }
        assert_eq!(Roles::from_text("viewer root"), Err("root"));
        assert_eq!(Roles::from_text("viewer,operator"), Err("viewer,operator"));
    }
}
