/** The guest that the kernel oracle runs in serves scripts of the tests too. */
export { guestUnavailable, runInGuest } from '../../src/scenario/oracle/guest.js'
