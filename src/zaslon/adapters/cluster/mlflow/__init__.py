"""MLflow behind the ports: the registry of models, and runs that are logged while they go on.

MLflow is an extra (`pip install 'zaslon[mlflow]'`). It takes seconds to import, so that happens when something is
written down.
"""
