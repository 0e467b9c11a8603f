import js from '@eslint/js'
import tseslint from 'typescript-eslint'

// The dependency rule of docs/architecture.md: wire ← port ← core ← (drivers, kernel, control, scenario, lab, daemon) ← cli.
// A folder may import from itself and from the folders listed for it; core and below import nothing of node.
const mayImport = {
  wire: [],
  port: ['wire'],
  core: ['wire', 'port'],
  kernel: ['wire', 'port', 'core'],
  drivers: ['wire', 'port', 'core', 'kernel'],
  control: ['wire', 'port', 'core', 'kernel'],
  scenario: ['wire', 'port', 'core', 'drivers', 'control', 'kernel'],
  lab: ['wire', 'port', 'core', 'drivers', 'kernel', 'control'],
  daemon: ['wire', 'port', 'core', 'drivers', 'kernel', 'control'],
}
const pure = new Set(['wire', 'port', 'core'])
const folders = [...Object.keys(mayImport), 'cli']

const boundaries = Object.entries(mayImport).map(([folder, allowed]) => ({
  files: [`src/${folder}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          ...folders
            .filter((other) => other !== folder && !allowed.includes(other))
            .map((other) => ({
              regex: `^(\\.\\./)+${other}/`,
              message: `src/${folder} may import only from: ${allowed.join(', ') || 'itself'}`,
            })),
          ...(pure.has(folder)
            ? [{ regex: '^(node:|[a-z@])', message: `src/${folder} is pure: no node, no packages` }]
            : []),
          ...(!['drivers', 'kernel'].includes(folder)
            ? [{ regex: 'kernel/native\\.js$', message: 'only drivers and kernel load the addon' }]
            : []),
        ],
      },
    ],
  },
}))

export default tseslint.config(
  { ignores: ['dist/**', 'native/build/**', 'node_modules/**', '.tap/**'] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_' },
      ],
    },
  },
  {
    // The director knows no clock and no dice but those it is given.
    files: ['src/core/**/*.ts', 'src/wire/**/*.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        'process',
        'Buffer',
        'performance',
        'setTimeout',
        'setInterval',
        'console',
      ],
      'no-restricted-properties': [
        'error',
        { object: 'Math', property: 'random', message: 'randomness is injected: port/random.ts' },
        { object: 'Date', property: 'now', message: 'time is injected: port/clock.ts' },
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'netns-tests/**/*.ts'],
    ignores: ['test/support/properties.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        { name: 'fast-check', message: 'test/support/properties.ts: the same cases in every run' },
      ],
    },
  },
  ...boundaries,
)
