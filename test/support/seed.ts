/**
 * The seed of a random test: the same in every run, so that no run fails by chance, unless SEED is a number, or
 * `fresh` for one of the moment, with which to hunt.
 */
export function seedOr(usual: number): number {
  const { SEED } = process.env
  if (SEED === undefined) return usual
  return SEED === 'fresh' ? Date.now() % 1e9 : Number(SEED)
}
