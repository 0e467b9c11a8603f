/** fast-check with the same cases in every run; what fails says its seed. */
import fc from 'fast-check'
import { seedOr } from './seed.js'

fc.configureGlobal({ seed: seedOr(1) })

export default fc
