import type { JSX, ReactNode } from "react";

/** The head of a view: where it is, what it is, what can be done. */
export function PageHeader({
  title,
  about,
  crumb,
  actions,
}: {
  title: ReactNode;
  about?: ReactNode;
  crumb?: { href: string; label: string };
  actions?: ReactNode;
}): JSX.Element {
  return (
    <header className="page__header">
      <div className="page__titles">
        {crumb && (
          <a className="crumb" href={crumb.href}>
            {crumb.label}
          </a>
        )}
        <h1>{title}</h1>
        {about && <p className="page__about">{about}</p>}
      </div>
      {actions && <div className="row">{actions}</div>}
    </header>
  );
}

export function Card({ title, actions, children }: { title?: ReactNode; actions?: ReactNode; children: ReactNode }): JSX.Element {
  return (
    <section className="card">
      {title !== undefined && (
        <header className="card__header">
          <h2>{title}</h2>
          {actions}
        </header>
      )}
      {children}
    </section>
  );
}

/** Name and value pairs. */
export function Facts({ facts }: { facts: readonly (readonly [string, ReactNode])[] }): JSX.Element {
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <Fact key={name} name={name} value={value} />
      ))}
    </dl>
  );
}

function Fact({ name, value }: { name: string; value: ReactNode }): JSX.Element {
  return (
    <>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </>
  );
}
