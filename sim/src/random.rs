//! The seed's stream: what the simulation decides by chance, it decides the same way again.

/// SplitMix64 (Steele, Lea, Flood 2014). Never for keys.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for part `index`, so that the parts may run in any order.
    #[must_use]
    pub fn part(&self, index: u64) -> Self {
        let mut random = Self(self.0 ^ index.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    #[expect(clippy::should_implement_trait, reason = "a stream without end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end` - 1; 0 if `end` is 0. The bias is below 2⁻³² for ends below 2³².
    pub fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.next()) * (end as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// From 0 up to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in this share of the calls.
    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Mean 0, deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
