/** Why a peer could not be set up, for a note: what is not installed is said in these words. */
export function whyMissing(error: unknown): string {
  const { message } = error as Error
  // By ip(8), which runs programs in namespaces, and by node.
  const match = /exec of "([^"]+)" failed: No such file|spawn (\S+) ENOENT/.exec(message)
  const program = match?.[1] ?? match?.[2]
  return program === undefined ? message : `${program} is not installed (scripts/setup --bench)`
}
