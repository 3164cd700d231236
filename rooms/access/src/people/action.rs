//! The registry of actions at the control plane. Each endpoint of the API has exactly one.

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal),+ $(,)?) => {
        /// What somebody may ask of the plane. The name stays the same over versions: policies,
        /// the log and operators' alerts name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $action,)+
        }

        impl Action {
            pub const ALL: &[Self] = &[$(Self::$action),+];

            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$action => $name,)+
                }
            }
        }
    };
}

actions! {
    /// Health, the interface, and what outsiders may know of our CAs: certificates, revocation lists,
    /// OCSP.
    PublicRead = "public.read",
    /// To prove who one is.
    SignIn = "access.sign-in",
    /// Who am I, what may I; my own ways to sign in; to sign out.
    OwnAccess = "access.own",
    /// To add a passkey of one's own, or to take one away.
    OwnPasskeys = "access.own-passkeys",
    /// The first steps of a chip that has no identity yet.
    DeviceEnroll = "identity.enroll",
    /// What a device says of itself: evidence, the roots that it believes, its ownership code.
    DeviceTell = "identity.tell",
    /// What an observer saw in the network.
    Observe = "detection.observe",
    /// Whose a device is: to claim, offer, accept, release.
    Ownership = "identity.own",
    IdentityRead = "identity.read",
    /// Whose certificates are believed: manufacturers, TPM vendors, existing fleets, claim
    /// certificates.
    IdentityTrust = "identity.trust",
    /// Which devices may come: lists, claim tokens, endorsement keys, ownership codes.
    IdentityExpect = "identity.expect",
    /// Which may come no more.
    IdentityUnlist = "identity.unlist",
    /// To approve or refuse an enrollment that waits.
    IdentityDecide = "identity.decide",
    CertifyService = "identity.certify-service",
    /// Devices, services and certificates, one by one or by a list.
    Revoke = "identity.revoke",
    /// All devices of a product, or all that a CA issued.
    RevokeMany = "identity.revoke-many",
    /// To lift a hold.
    Release = "identity.release",
    /// To make, import and request CAs, to install what outsiders are told of them.
    CaPrepare = "identity.ca-prepare",
    /// To roll a CA over, retire a root, let its key leave or destroy it.
    CaChange = "identity.ca-change",
    AccessRead = "access.read",
    AccessPlan = "access.plan",
    AccessApply = "access.apply",
    /// Sign-in links on the machine's own disk.
    AdminLink = "access.admin-link",
    PeopleRead = "access.people-read",
    /// People, their roles and links; tokens.
    PeopleChange = "access.people-change",
    /// Acts that wait for a second person.
    ProposalsRead = "access.proposals-read",
    /// To approve one, which asks for its own action as well; to refuse one.
    ProposalDecide = "access.proposal-decide",
    /// To ask for all that operators and administrators may, for an hour.
    BreakGlass = "access.break-glass",
    CommandRead = "gateway.command-read",
    /// To tell devices something, or to take it back.
    Command = "gateway.command",
    InventoryRead = "inventory.read",
    InventoryExport = "inventory.export",
    InventoryImport = "inventory.import",
    DetectionRead = "detection.read",
    BaselineAccept = "detection.accept",
    ResponseRead = "response.read",
    /// To cut a device off, to close an incident.
    Contain = "response.contain",
    /// More devices at once than playbooks may cut off in an hour.
    ContainMany = "response.contain-many",
    Restore = "response.restore",
    AuditRead = "audit.read",
    Unseal = "audit.unseal",
    /// The plane's own metrics.
    Measure = "plane.measure",
}

impl Action {
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|action| action.name() == name)
    }
}
