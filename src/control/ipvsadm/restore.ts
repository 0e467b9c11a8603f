/**
 * Splits what -R reads into command lines: words between blanks, without the word `ipvsadm` wherever it
 * stands; lines without words are passed over. Nothing quotes and nothing comments.
 */
export async function* splitLines(
  input: AsyncIterable<string | Uint8Array>,
): AsyncIterable<string[]> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of input) {
    rest += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop()!
    for (const line of lines) yield* wordsOf(line)
  }
  yield* wordsOf(rest + decoder.decode())
}

function* wordsOf(line: string): Iterable<string[]> {
  const words = line.split(/[ \t\r]+/).filter((word) => word !== '' && word !== 'ipvsadm')
  if (words.length > 0) yield words
}
