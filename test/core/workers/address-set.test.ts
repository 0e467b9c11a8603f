import fc from '../../support/properties.js'
import t from 'tap'
import { AddressSet } from '../../../src/core/workers/address-set.js'

t.test('has what was added more often than removed, as a Map of counts does', async () => {
  const address = fc.tuple(fc.nat(40), fc.nat(2), fc.constant(0), fc.nat(1))
  const steps = fc.array(fc.tuple(fc.boolean(), address), { maxLength: 600 })
  fc.assert(
    fc.property(steps, (steps) => {
      const set = new AddressSet()
      const counts = new Map<string, number>()
      for (const [isAdded, [a, b, c, d]] of steps) {
        const key = `${a} ${b} ${c} ${d}`
        const count = counts.get(key) ?? 0
        if (isAdded) set.add(a, b, c, d)
        else set.remove(a, b, c, d)
        counts.set(key, isAdded ? count + 1 : Math.max(0, count - 1))
      }
      for (let a = 0; a <= 41; a++)
        for (let b = 0; b <= 2; b++)
          for (let d = 0; d <= 1; d++)
            if (set.has(a, b, 0, d) !== (counts.get(`${a} ${b} 0 ${d}`) ?? 0) > 0)
              throw new Error(`${a} ${b} 0 ${d}`)
    }),
  )
})
